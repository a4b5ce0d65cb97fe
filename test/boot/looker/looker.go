// Package looker is a service of boot tests: it says which interfaces are in its
// network namespace, and tries to reach what its declaration does not name. It
// needs the group netlink of system calls.
package looker

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"cloison/format/rtnetlink"
	"cloison/linux/netlink"
	"cloison/target/service"
)

// Main is the program.
func Main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	notify, err := service.Notify()
	if err == nil {
		err = look()
	}
	if err == nil {
		err = notify.Ready()
	}
	if err != nil {
		fmt.Println("cannot look:", err)
		os.Exit(1)
	}
	<-ctx.Done()
}

func look() error {
	s, err := netlink.Open()
	if err != nil {
		return err
	}
	answer, err := s.Do(rtnetlink.Links())
	if err != nil {
		return err
	}
	var seen []string
	for _, l := range answer.Links {
		state := "down"
		if l.Up {
			state = "up"
		}
		seen = append(seen, l.Name+" "+state)
		// Without CAP_NET_ADMIN it stays as it is.
		if _, err := s.Do(rtnetlink.SetUp(l.Index, !l.Up)); err != syscall.EPERM {
			return fmt.Errorf("switched %s: %w", l.Name, err)
		}
	}
	fmt.Printf("sees %s, and can switch none\n", strings.Join(seen, ", "))
	return nil
}
