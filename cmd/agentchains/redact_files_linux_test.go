package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// put writes files below a new folder, by path and content, and returns it.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents returns the files below a folder, symbolic links left out.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// sameFiles compares the files below a folder, and says which differ.
func sameFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	got := contents(t, dir)
	for name, text := range want {
		same(t, name, got[name], text)
		delete(got, name)
	}
	for name := range got {
		t.Errorf("there is %s, which must not be there", name)
	}
}

func stat(t *testing.T, path string) *syscall.Stat_t {
	t.Helper()
	var info syscall.Stat_t
	if err := syscall.Stat(path, &info); err != nil {
		t.Fatal(err)
	}
	return &info
}

func inPlace(t *testing.T, args ...string) (code int, stderr string) {
	t.Helper()
	code, stdout, stderr := execute("", append([]string{"redact", "--in-place", "--formats=off", values(t, "TOKEN="+tokenValue+"\nPIN=873104@")}, args...)...)
	same(t, "output", stdout, "")
	return code, stderr
}

func TestRedactFolder(t *testing.T) {
	t.Parallel()
	before := map[string]string{
		"a.log": "x " + tokenValue + "\n", "sub/deep/events.jsonl": `{"t": "\u0064` + tokenValue[1:] + "\"}\n", "sub/v.JSON": "[\"" + tokenValue + "\"]\n",
		"sub/broken.json": "{\"t\": " + tokenValue, "clean": "nothing\n", "empty": "", "bytes": "\x00\xff" + tokenValue + "\x00\xfe",
		".hidden/b.log": tokenValue, ".git/packed": tokenValue, "sub/.git/packed": tokenValue,
	}
	dir := put(t, before)
	outside := put(t, map[string]string{"file": tokenValue})
	for link, to := range map[string]string{"file-link": filepath.Join(outside, "file"), "folder-link": outside, "inner-link": "a.log"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	clean := stat(t, filepath.Join(dir, "clean"))

	code, _, stderr := execute("", "redact", "--check", "--fail-on-find", "--formats=off", values(t, "TOKEN="+tokenValue), dir)
	if code != 3 || !strings.HasPrefix(stderr, "agentchains: would redact 6 in 6 of 8 files (") {
		t.Errorf("a check exits with %d, want 3, and says %s", code, stderr)
	}
	sameFiles(t, dir, before)

	code, stderr = inPlace(t, "--fail-on-find", dir)
	if code != 3 || !strings.HasPrefix(stderr, "agentchains: redacted 6 in 6 of 8 files (") {
		t.Errorf("exit code %d, want 3; standard error: %s", code, stderr)
	}
	for _, line := range []string{
		"TOKEN     raw       1      " + dir + "/sub/deep/events.jsonl\n",
		"agentchains: " + dir + "/sub/broken.json: is not JSON: redacted as text\n",
	} {
		if !strings.Contains(stderr, line) {
			t.Errorf("there is no line %q in:\n%s", line, stderr)
		}
	}
	sameFiles(t, dir, map[string]string{
		"a.log": "x [REDACTED:TOKEN]\n", "sub/deep/events.jsonl": "{\"t\": \"[REDACTED:TOKEN]\"}\n", "sub/v.JSON": "[\"[REDACTED:TOKEN]\"]\n",
		"sub/broken.json": "{\"t\": [REDACTED:TOKEN]", "clean": "nothing\n", "empty": "", "bytes": "\x00\xff[REDACTED:TOKEN]\x00\xfe",
		".hidden/b.log": "[REDACTED:TOKEN]", ".git/packed": tokenValue, "sub/.git/packed": tokenValue,
	})
	sameFiles(t, outside, map[string]string{"file": tokenValue})
	if now := stat(t, filepath.Join(dir, "clean")); now.Ino != clean.Ino || now.Mtim != clean.Mtim {
		t.Error("a file in which nothing was found was touched")
	}
	if code, stderr = inPlace(t, "--fail-on-find", dir); code != 0 || !strings.HasPrefix(stderr, "agentchains: found nothing in 8 files (") {
		t.Errorf("the second time the exit code is %d, want 0; standard error: %s", code, stderr)
	}
}

// A .json file stays valid where text would not, and one file is printed the
// same as it is rewritten.
func TestRedactOneFile(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"v.json": `{"pin": 87310466, "\u0064` + tokenValue[1:] + `": null}`})
	path, fd := filepath.Join(dir, "v.json"), values(t, "PIN=87310466\nTOKEN="+tokenValue)
	code, stdout, _ := execute("", "redact", "--force", fd, path)
	const want = `{"pin": "[REDACTED:PIN]", "[REDACTED:TOKEN]": null}`
	if code != 0 || !json.Valid([]byte(stdout)) {
		t.Errorf("exit code %d; the output is JSON: %t", code, json.Valid([]byte(stdout)))
	}
	same(t, "output", stdout, want)
	if code, _, _ = execute("", "redact", "--force", "--in-place", values(t, "PIN=87310466\nTOKEN="+tokenValue), path); code != 0 {
		t.Errorf("exit code %d", code)
	}
	sameFiles(t, dir, map[string]string{"v.json": want})
}

func TestRedactKeepsPermissions(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": tokenValue})
	path := filepath.Join(dir, "a")
	owner := os.Getuid()
	if owner == 0 {
		owner = 12345
	}
	// The owner first: a change of it clears the set-group-id bit.
	if err := errors.Join(os.Chown(path, owner, -1), os.Chmod(path, 0o640|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	// user::rw-, user:12345:r--, group::---, mask::r--, other::---
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, entry := range [][3]uint32{{1, 6, 1<<32 - 1}, {2, 4, 12345}, {4, 0, 1<<32 - 1}, {16, 4, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		list = binary.LittleEndian.AppendUint16(list, uint16(entry[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(entry[1]))
		list = binary.LittleEndian.AppendUint32(list, entry[2])
	}
	const attribute = "system.posix_acl_access"
	err := unix.Setxattr(path, attribute, list, 0)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	withList := err == nil
	before := stat(t, path)
	if code, stderr := inPlace(t, path); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	after := stat(t, path)
	if after.Ino == before.Ino || after.Mode != before.Mode || after.Uid != before.Uid || after.Gid != before.Gid {
		t.Errorf("mode %o and owner %d:%d, want %o and %d:%d in a new file", after.Mode, after.Uid, after.Gid, before.Mode, before.Uid, before.Gid)
	}
	if !withList {
		t.Skip("SKIPPED: the file system has no access lists")
	}
	kept := make([]byte, 1024)
	n, err := unix.Getxattr(path, attribute, kept)
	if err != nil || string(kept[:n]) != string(list) {
		t.Errorf("the access list was not kept: %v", err)
	}
}

// What goes wrong with one file is told, the others are done, and a path is
// printed without what it holds.
func TestRedactGoesOn(t *testing.T) {
	t.Parallel()
	dir := put(t, map[string]string{"a": tokenValue, "b": tokenValue, tokenValue: tokenValue})
	join := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Symlink("a", join("link")), os.Link(join("b"), join("other")), syscall.Mkfifo(join("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	code, stderr := inPlace(t, join("none"), join("link"), join("fifo"), "/proc/version", join("b"), join(tokenValue), join("a"))
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	same(t, "standard error", stderr[strings.LastIndex(stderr, "\n\n"):], "\n\n"+
		"agentchains: "+join("b")+": has other names (hard links): what they name is not redacted\n"+
		"agentchains: "+join("none")+": no such file or directory\n"+
		"agentchains: "+join("link")+": is a symbolic link: name what it leads to\n"+
		"agentchains: "+join("fifo")+": is no regular file\n"+
		"agentchains: /proc/version: changes while it is read\n") // it is longer than it says
	if strings.Contains(stderr, tokenValue) {
		t.Error("a path with a value is printed as it is")
	}
	const redacted = "[REDACTED:TOKEN]"
	sameFiles(t, dir, map[string]string{"a": redacted, "b": redacted, "other": tokenValue, tokenValue: redacted})
}

// A readHook is called for each read of a file, in the place of a terminal that
// shows the progress.
type readHook func()

func (h readHook) Write(p []byte) (int, error) { h(); return len(p), nil }

// redactHooked redacts a folder, and returns what failed.
func redactHooked(t *testing.T, dir string, hook readHook) (failed string) {
	t.Helper()
	set := redact.NewSet(redact.Secret{Name: "TOKEN", Value: tokenValue})
	r := &redactor{set: set, format: auto, summary: newSummary(set, false)}
	r.progress.to = readHook(func() {
		r.progress.shown = time.Time{} // so that it is called the next time too
		hook()
	})
	if err := r.files([]string{dir}); err != nil {
		t.Fatal(err)
	}
	for _, e := range r.summary.Errors {
		failed += e.Text
	}
	return failed
}

// write opens a file with flags, and writes a text.
func write(path string, flags int, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|flags, 0o644)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

// What happens to a file while it is read is neither lost nor followed.
func TestRedactWhileChanged(t *testing.T) {
	t.Parallel()
	const line, redacted = tokenValue + "\n", "[REDACTED:TOKEN]\n"
	tests := []struct {
		name   string
		times  int
		change func(path, outside string) error
		want   map[string]string
		failed string
	}{
		{"is written to", 1, func(path, _ string) error { return write(path, os.O_APPEND, line) },
			map[string]string{"a": redacted + redacted}, ""},
		{"changes with each read", 1000, func(path, _ string) error { return os.Chtimes(path, time.Now(), time.Now()) },
			map[string]string{"a": line}, "changes while it is read"},
		{"is replaced", 1, func(path, _ string) error {
			return errors.Join(write(path+".new", os.O_CREATE, line+"new "+line), os.Rename(path+".new", path))
		}, map[string]string{"a": redacted + "new " + redacted}, ""},
		{"is removed", 1, func(path, _ string) error { return os.Remove(path) },
			map[string]string{}, "no such file or directory"},
		{"becomes a link", 1, func(path, outside string) error {
			return errors.Join(os.Remove(path), os.Symlink(outside, path))
		}, map[string]string{}, "path escapes from parent"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, outside := put(t, map[string]string{"a": line}), put(t, map[string]string{"b": line})
			changes := 0
			failed := redactHooked(t, dir, func() {
				if changes++; changes > test.times {
					return
				}
				if err := test.change(filepath.Join(dir, "a"), filepath.Join(outside, "b")); err != nil {
					t.Error(err)
				}
			})
			same(t, "what failed", failed, test.failed)
			sameFiles(t, dir, test.want)
			sameFiles(t, outside, map[string]string{"b": line})
		})
	}
}

// A file that grows as fast as it is read is given up, and loses nothing, whether
// it grows from the first time that it is read on, or from the second.
func TestRedactGrowing(t *testing.T) {
	t.Parallel()
	const line, most = tokenValue + "\n", 100
	for _, quiet := range []int{0, 2} {
		dir := put(t, map[string]string{"a": line})
		reads := 0
		failed := redactHooked(t, dir, func() {
			if reads++; reads == most {
				t.Fatal("it is read without an end")
			}
			if reads > quiet {
				if err := write(filepath.Join(dir, "a"), os.O_APPEND, line); err != nil {
					t.Error(err)
				}
			}
		})
		same(t, "what failed", failed, "changes while it is read")
		sameFiles(t, dir, map[string]string{"a": strings.Repeat(line, 1+reads-quiet)})
	}
}
