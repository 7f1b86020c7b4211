package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// copyACL copies the POSIX access list of a file. Without it the permissions of
// the group would be wider than they were: they are the list's mask.
func copyACL(to, from *os.File) error {
	const attribute, most = "system.posix_acl_access", 64 << 10
	list := make([]byte, most)
	n, err := unix.Fgetxattr(int(from.Fd()), attribute, list)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("fgetxattr", err)
	}
	return os.NewSyscallError("fsetxattr", unix.Fsetxattr(int(to.Fd()), attribute, list[:n], 0))
}
