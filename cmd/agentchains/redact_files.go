package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// files redacts files and folders in place, or looks what is in them. What goes
// wrong with one file is noted, and the others are done all the same.
func (r *redactor) files(paths []string) error {
	for _, path := range paths {
		if err := r.noted(path, r.path(path)); err != nil {
			return err
		}
	}
	return nil
}

// noted notes an error of one file. A signal ends it all.
func (r *redactor) noted(path string, err error) error {
	var stopped interrupted
	if err == nil || errors.As(err, &stopped) {
		return err
	}
	r.summary.fail(path, err)
	return nil
}

var errLink = errors.New("is a symbolic link: name what it leads to")

func (r *redactor) path(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return r.folder(path)
	case info.Mode()&fs.ModeSymlink != 0:
		return errLink
	}
	// What is in a root cannot lead out of it, whatever is changed meanwhile.
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	return r.file(root, filepath.Base(path), path)
}

func (r *redactor) folder(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		full := filepath.Join(path, name)
		switch {
		case err != nil:
			return r.noted(full, err)
		case entry.IsDir() && entry.Name() == ".git":
			// Its objects are named by their content.
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		return r.noted(full, r.file(root, name, full))
	})
}

var (
	errIrregular = errors.New("is no regular file")
	errChanges   = errors.New("changes while it is read")
)

// file redacts one file of root. One that changes meanwhile is done again.
func (r *redactor) file(root *os.Root, name, path string) error {
	const most = 3
	for range most {
		f, err := r.attempt(root, name, path)
		if !errors.Is(err, errChanges) {
			if err == nil {
				r.summary.add(path, f)
			}
			return err
		}
	}
	return errChanges
}

// attempt reads a file, and reads it once more to rewrite it when something in
// it is to be redacted: most files hold nothing, and are not even copied.
func (r *redactor) attempt(root *os.Root, name, path string) (*found, error) {
	// Opened without blocking: it may become a FIFO any time.
	from, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errIrregular
	}
	// Little more than there was at first: it may grow as fast as it is read.
	f, err := r.copy(io.Discard, io.LimitReader(from, info.Size()+1), path)
	switch {
	case err != nil:
		return nil, err
	case f.bytes != info.Size():
		return nil, errChanges
	}
	if r.check || !f.redacted() {
		return f, unchanged(root, name, from, info)
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	f, err = r.rewrite(root, name, path, from, info)
	if err != nil {
		return nil, err
	}
	if info.Sys().(*syscall.Stat_t).Nlink > 1 {
		f.notes = append(f.notes, "has other names (hard links): what they name is not redacted")
	}
	return f, syncFolder(root, filepath.Dir(name))
}

// unchanged returns an error when name is not the file any more that was opened,
// or its content is not that which was read.
func unchanged(root *os.Root, name string, from *os.File, before fs.FileInfo) error {
	now, err := from.Stat()
	if err != nil {
		return err
	}
	named, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) || !os.SameFile(named, before) {
		return errChanges
	}
	return nil
}

// rewrite puts a redacted copy in the place of a file. Until the copy is whole
// and on disk, the file stays as it was.
func (r *redactor) rewrite(root *os.Root, name, path string, from *os.File, before fs.FileInfo) (f *found, err error) {
	temp := filepath.Join(filepath.Dir(name), ".agentchains-"+rand.Text())
	to, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			to.Close()
			err = errors.Join(err, root.Remove(temp))
		}
	}()
	buffered := bufio.NewWriterSize(to, 64<<10)
	if f, err = r.copy(buffered, io.LimitReader(from, before.Size()), path); err != nil {
		return nil, err
	}
	if err = buffered.Flush(); err != nil {
		return nil, err
	}
	if err = inherit(to, from, before); err != nil {
		return nil, err
	}
	if err = errors.Join(to.Sync(), to.Close()); err != nil {
		return nil, err
	}
	if err = unchanged(root, name, from, before); err != nil {
		return nil, err
	}
	return f, root.Rename(temp, name)
}

// inherit gives a copy the owner and the permissions of the original. The owner
// first: a change of it takes permissions away.
func inherit(to, from *os.File, original fs.FileInfo) error {
	info, err := to.Stat()
	if err != nil {
		return err
	}
	owner, now := original.Sys().(*syscall.Stat_t), info.Sys().(*syscall.Stat_t)
	if owner.Uid != now.Uid || owner.Gid != now.Gid {
		if err := to.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	if err := copyACL(to, from); err != nil {
		return err
	}
	return to.Chmod(original.Mode())
}

// syncFolder makes a rename last.
func syncFolder(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
