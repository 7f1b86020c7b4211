package supervise

import (
	"encoding/gob"
	"os"
	"syscall"
	"time"
)

// beat is how often the runner and the supervisor let each other know that they
// are awake.
const beat = time.Second

// A pulse is what one of them knows of the other. It counts beats, not time: a
// machine that was suspended is no reason to end anything.
type pulse struct{ silent, woken, steady int }

// heard is called for each message.
func (p *pulse) heard() { p.silent = 0 }

// tick is called for each beat. The other one is to be continued when it is
// silent, since somebody may have stopped it. It is given up when that happens
// over and over, even if it says a word each time. One that is not stopped waits for a
// processor, on a machine that has too much to do: that takes longer.
func (p *pulse) tick(stopped bool) (wake, dead bool) {
	const mostWoken, mostSilent = 6, 60
	p.silent++
	if p.silent < 2 {
		if p.steady++; p.steady == 3 {
			p.woken = 0
		}
		return false, false
	}
	p.steady = 0
	if stopped {
		p.woken++
	}
	return true, p.woken == mostWoken || p.silent == mostSilent
}

// An order goes from the runner to the supervisor. An empty one is a beat.
type order struct {
	Signal syscall.Signal // to be passed on
	Stop   bool
	Grace  time.Duration
}

// A beginning is the first order, and never an argument or an environment
// variable of the supervisor: it holds the secrets.
type beginning struct {
	Args, Env []string
	Dir       string
	Terminal  bool
}

// A report goes from the supervisor to the runner. An empty one is a beat.
type report struct {
	Pid     int           // of the command, in the first report
	Errno   syscall.Errno // why it was not started
	Failure string        // the same, when it is not the command's
	Ended   *Receipt      // the last report
}

// A link is one end of the socket between the runner and the supervisor. Nobody
// else has it, so its end is the end of the other one.
type link struct {
	conn *os.File
	enc  *gob.Encoder
	dec  *gob.Decoder
}

func newLink(conn *os.File) *link {
	return &link{conn, gob.NewEncoder(conn), gob.NewDecoder(conn)}
}

// send fails when the other one does not take messages any more.
func (l *link) send(m any) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(beat)); err != nil {
		return err
	}
	return l.enc.Encode(m)
}

// receive returns a channel that is closed when the other one has ended.
func receive[M any](l *link) <-chan M {
	c := make(chan M)
	go func() {
		defer close(c)
		for {
			var m M
			if l.dec.Decode(&m) != nil {
				return
			}
			c <- m
		}
	}()
	return c
}
