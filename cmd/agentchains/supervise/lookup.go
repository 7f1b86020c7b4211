//go:build linux || darwin || freebsd || netbsd || openbsd

package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lookPath searches as a shell does. Unlike exec.LookPath it takes PATH from
// env, and tells what is not executable from what is not there.
func lookPath(name string, env []string) (string, syscall.Errno) {
	if strings.Contains(name, "/") {
		return name, 0
	}
	var list string
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			list = value
		}
	}
	errno := syscall.ENOENT
	for _, dir := range filepath.SplitList(list) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		if unix.Access(path, unix.X_OK) == nil {
			return path, 0
		}
		errno = syscall.EACCES
	}
	return "", errno
}
