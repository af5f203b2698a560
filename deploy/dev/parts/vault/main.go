// Command vault serves HashiCorp Vault's published core for tests and for the development stack: the real HTTP API,
// seal, storage, policies, quotas and audit, with the engines that Doorward speaks to and no others.
//
// It is started as Vault itself is, `vault server -config FILE`, and reads the few settings that the harness writes.
// There are no other commands: initialising, unsealing and mounting go over the API. It listens on loopback alone and
// is never shipped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

func main() {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Info, Output: os.Stderr})
	flags := flag.NewFlagSet("vault server", flag.ExitOnError)
	path := flags.String("config", "", "the configuration, JSON, in this `file`")
	if len(os.Args) < 2 || os.Args[1] != "server" {
		fmt.Fprintln(os.Stderr, "usage: vault server -config FILE")
		os.Exit(64)
	}
	_ = flags.Parse(os.Args[2:])
	stop, done := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer done()
	if err := serve(stop, *path, log); err != nil {
		log.Error("ended", "error", err)
		os.Exit(1)
	}
	log.Info("stopped")
}

// serve runs the server until it is told to stop or fails.
func serve(stop context.Context, path string, log hclog.Logger) error {
	settings, err := read(path)
	if err != nil {
		return err
	}
	listener, err := listen(settings)
	if err != nil {
		return err
	}
	core, handler, err := open(settings, log)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Info("listening", "address", listener.Addr().String())

	select {
	case err = <-failed:
	case <-stop.Done():
	}
	leave, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if shut := server.Shutdown(leave); errors.Is(shut, context.DeadlineExceeded) {
		_ = server.Close()
	}
	return errors.Join(err, core.ShutdownWait())
}
