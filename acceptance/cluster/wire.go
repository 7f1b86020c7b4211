package cluster

import (
	"fmt"
	"io"
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

	mu     sync.Mutex // guards all below
	cutOff *Node      // from the others; nil: none
	open   []*wire
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
					_, _ = io.Copy(link.ends[i], link.ends[1-i]) // it ends with the wire
					link.close()
				})
			}
		}
	}
}

func (w *wires) admit(conn net.Conn, to *Node, address string) *wire {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := w.caller(conn)
	back, err := net.Dial("tcp", address)
	if err != nil || from == nil || w.cutOff == from || w.cutOff == to {
		conn.Close()
		if err == nil {
			back.Close()
		}
		return nil
	}
	link := &wire{from, to, [2]net.Conn{conn, back}}
	w.open = append(w.open, link)
	return link
}

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

func (w *wires) cut(n *Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutOff = n
	w.open = slices.DeleteFunc(w.open, func(link *wire) bool {
		hit := link.from == n || link.to == n
		if hit {
			link.close()
		}
		return hit
	})
}

func (w *wires) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cutOff = nil
}
