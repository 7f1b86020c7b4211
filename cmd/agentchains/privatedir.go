package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// A privateDir is a directory that nobody but this user can open. It is locked
// while its process lives, so that a later one can tell what a dead one left.
type privateDir struct{ lock *os.File }

const privatePrefix = "agentchains-events-"

// newPrivateDir makes one in memory, where the user has a place for that, else with
// the temporary files.
func newPrivateDir() (*privateDir, error) {
	var errs []error
	for _, parent := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()} {
		if parent == "" {
			continue
		}
		removeLeftovers(parent)
		d, err := newPrivateDirIn(parent)
		if err == nil {
			return d, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func newPrivateDirIn(parent string) (*privateDir, error) {
	const tries = 10
	for range tries {
		path, err := os.MkdirTemp(parent, privatePrefix)
		if err != nil {
			return nil, err
		}
		lock, err := os.Open(path)
		if err != nil {
			continue // it was taken for a leftover before it was locked
		}
		if d := (&privateDir{lock}); d.own() {
			return d, nil
		}
		lock.Close()
	}
	return nil, fmt.Errorf("a directory in %s disappears again and again", parent)
}

func (d *privateDir) path() string { return d.lock.Name() }

// own locks the directory, and reports whether it is this process's now and still
// where it was.
func (d *privateDir) own() bool {
	if unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	locked, err := d.lock.Stat()
	if err != nil || locked.Sys().(*syscall.Stat_t).Uid != uint32(os.Getuid()) {
		return false
	}
	there, err := os.Lstat(d.path())
	return err == nil && os.SameFile(locked, there)
}

// remove removes the directory, with all that is in it.
func (d *privateDir) remove() error {
	defer d.lock.Close()
	return os.RemoveAll(d.path())
}

// removeLeftovers removes what processes of this user left that were killed. What
// fails is for the next one to try.
func removeLeftovers(parent string) {
	paths, _ := filepath.Glob(filepath.Join(parent, privatePrefix+"*"))
	for _, path := range paths {
		lock, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		d := &privateDir{lock}
		if d.own() {
			_ = d.remove()
		}
		lock.Close()
	}
}
