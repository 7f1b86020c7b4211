package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// wires carry the connections between the nodes.
type wires struct {
	nodes []*Node

	mu     sync.Mutex    // guards all below
	cutOff *Node         // from the others; nil: none
	silent bool          // its wires stay, and carry nothing
	healed chan struct{} // closed when no node is cut off any more
	open   []*wire
	lost   []net.Conn // which were opened meanwhile, and nobody has accepted
}

// wire is a connection from one node to another.
type wire struct {
	from, to *Node
	ends     [2]net.Conn
}

// carry passes the connections to a node on, until the listener is closed.
func (w *wires) carry(l net.Listener, to *Node, address string) {
	var copies sync.WaitGroup
	defer copies.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if link := w.admit(conn, to, address); link != nil {
			for i := range link.ends {
				copies.Go(func() {
					w.pass(link, link.ends[i], link.ends[1-i])
					link.close()
				})
			}
		}
	}
}

func (w *wires) admit(conn net.Conn, to *Node, address string) *wire {
	// Finding the caller is slow, so it is without the lock, which all that is passed on takes.
	link := &wire{w.caller(conn), to, [2]net.Conn{conn}}
	w.mu.Lock()
	cut := link.touches(w.cutOff)
	if cut && w.silent {
		w.lost = append(w.lost, conn)
		w.mu.Unlock()
		return nil
	}
	w.mu.Unlock()
	if link.from == nil || cut {
		conn.Close()
		return nil
	}
	back, err := net.Dial("tcp", address)
	if err != nil {
		conn.Close()
		return nil
	}
	link.ends[1] = back
	w.mu.Lock()
	defer w.mu.Unlock()
	if link.touches(w.cutOff) && !w.silent { // meanwhile
		link.close()
		return nil
	}
	w.open = append(w.open, link)
	return link
}

// pass copies from one end to the other until the wire ends.
func (w *wires) pass(link *wire, to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		w.await(link)
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// await returns when a wire carries something.
func (w *wires) await(link *wire) {
	w.mu.Lock()
	healed := w.healed
	silent := w.silent && link.touches(w.cutOff)
	w.mu.Unlock()
	if silent {
		<-healed
	}
}

func (w *wire) touches(n *Node) bool { return n != nil && (w.from == n || w.to == n) }

func (w *wire) close() {
	for _, end := range w.ends {
		end.Close()
	}
}

// caller returns the node whose process has the other end of a connection; nil:
// none has.
func (w *wires) caller(conn net.Conn) *Node {
	address := conn.RemoteAddr().(*net.TCPAddr)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil
	}
	local := fmt.Sprintf("0100007F:%04X", address.Port)
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[1] != local {
			continue
		}
		socket := "socket:[" + fields[9] + "]"
		for _, n := range w.nodes {
			files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", n.pid.Load()))
			if slices.ContainsFunc(files, func(file string) bool { at, _ := os.Readlink(file); return at == socket }) {
				return n
			}
		}
	}
	return nil
}

func (w *wires) cut(n *Node, silent bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutOff, w.silent, w.healed = n, silent, make(chan struct{})
	if silent {
		return
	}
	w.open = slices.DeleteFunc(w.open, func(link *wire) bool {
		hit := link.touches(n)
		if hit {
			link.close()
		}
		return hit
	})
}

func (w *wires) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cutOff == nil {
		return
	}
	w.cutOff = nil
	close(w.healed)
	for _, conn := range w.lost {
		conn.Close()
	}
	w.lost = nil
}
