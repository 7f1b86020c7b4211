package rotator_test

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

type cutting int32

const (
	beforeEffect cutting = iota + 1 // the statement does not reach the server
	afterEffect                     // the answer does not reach the client
)

func (c cutting) String() string {
	return map[cutting]string{beforeEffect: "cut before its effect", afterEffect: "cut after its effect"}[c]
}

// cutter forwards connections to a server on this machine, and cuts one off at
// the next statement that changes something.
type cutter struct {
	port int
	next atomic.Int32 // a cutting, used once
}

func newCutter(t *testing.T, to int) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{port: listener.Addr().(*net.TCPAddr).Port}
	var forwarding sync.WaitGroup
	forwarding.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				t.Error(err)
				_ = client.Close()
				return
			}
			var mute atomic.Bool
			forwarding.Go(func() {
				c.forward(client, server, func(p []byte) bool {
					if !bytes.Contains(p, []byte("ALTER ")) {
						return true
					}
					cut := cutting(c.next.Swap(0))
					mute.Store(cut == afterEffect)
					return cut != beforeEffect
				})
			})
			forwarding.Go(func() {
				c.forward(server, client, func([]byte) bool { return !mute.Load() })
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		forwarding.Wait()
	})
	return c
}

// forward copies until an end, or until pass does not let a part through.
func (c *cutter) forward(from, to net.Conn, pass func([]byte) bool) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !pass(buffer[:n]) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
