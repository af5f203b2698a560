// The SSH library that Terraform, Packer and most tools written in Go use, with pkg/sftp.
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

var (
	port   = os.Getenv("PROBE_PORT")
	echo   = os.Getenv("PROBE_ECHO")
	name   = os.Getenv("PROBE_NAME")
	folder = os.Getenv("PROBE_FOLDER")
	bulk   = func() []byte {
		block := sha256.Sum256([]byte("seed"))
		return bytes.Repeat(block[:], 98304)
	}()
)

func connect() (*ssh.Client, error) {
	text, err := os.ReadFile(os.Getenv("PROBE_KEY"))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	return ssh.Dial("tcp", "127.0.0.1:"+port, &ssh.ClientConfig{
		User:            os.Getenv("PROBE_USER"),
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Timeout:         30 * time.Second,
	})
}

func check(what string, got, wanted any) error {
	if got != wanted {
		return fmt.Errorf("%s: %.200q, not %.80q", what, fmt.Sprint(got), fmt.Sprint(wanted))
	}
	return nil
}

func digest(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func command(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	var out, errs bytes.Buffer
	session.Stdout, session.Stderr = &out, &errs
	err = session.Run("echo out; echo err >&2; exit 7")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("no exit code: %v", err)
	}
	return errors.Join(check("stdout", out.String(), "out\n"), check("stderr", errs.String(), "err\n"),
		check("exit code", exit.ExitStatus(), 7))
}

func stdin(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	session.Stdin = bytes.NewReader(bulk)
	out, err := session.Output("sha256sum")
	if err != nil {
		return err
	}
	return check("hash", strings.Fields(string(out))[0], digest(bulk))
}

func terminal(client *ssh.Client) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.RequestPty("xterm", 33, 91, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		return err
	}
	out, err := session.Output("stty size")
	if err != nil {
		return err
	}
	return check("size", strings.TrimSpace(string(out)), "33 91")
}

func files(client *ssh.Client) error {
	files, err := sftp.NewClient(client, sftp.UseConcurrentWrites(true))
	if err != nil {
		return err
	}
	defer files.Close()
	there, err := files.Create(name)
	if err != nil {
		return err
	}
	if _, err := there.ReadFrom(bytes.NewReader(bulk)); err != nil {
		return err
	}
	if err := there.Close(); err != nil {
		return err
	}
	if there, err = files.Open(name); err != nil {
		return err
	}
	here, err := os.Create(filepath.Join(folder, "back"))
	if err != nil {
		return err
	}
	if _, err := there.WriteTo(here); err != nil {
		return err
	}
	if err := errors.Join(there.Close(), here.Close()); err != nil {
		return err
	}
	back, err := os.ReadFile(filepath.Join(folder, "back"))
	if err != nil {
		return err
	}
	if err := check("content", digest(back), digest(bulk)); err != nil {
		return err
	}
	if err := files.PosixRename(name, name+"2"); err != nil {
		return err
	}
	if _, err := files.Stat(name + "2"); err != nil {
		return err
	}
	return files.Remove(name + "2")
}

func forward(client *ssh.Client) error {
	there, err := client.Dial("tcp", "127.0.0.1:"+echo)
	if err != nil {
		return err
	}
	written := make(chan error, 1)
	go func() {
		_, err := there.Write(bulk)
		written <- errors.Join(err, there.(interface{ CloseWrite() error }).CloseWrite())
	}()
	text, err := io.ReadAll(there)
	return errors.Join(err, <-written, check("content", digest(text), digest(bulk)))
}

// listener asks for a remote forward on a port that the server chooses.
func listener(client *ssh.Client) error {
	remote, err := client.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer remote.Close()
	go func() {
		if there, err := remote.Accept(); err == nil {
			text, _ := io.ReadAll(there)
			_, _ = there.Write(text)
			_ = there.Close()
		}
	}()
	here, err := net.Dial("tcp", remote.Addr().String())
	if err != nil {
		return err
	}
	if _, err := here.Write([]byte("there and back")); err != nil {
		return err
	}
	if err := here.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	text, err := io.ReadAll(here)
	return errors.Join(err, check("content", string(text), "there and back"))
}

func many(*ssh.Client) error {
	results := make(chan error)
	for range 10 {
		go func() {
			client, err := connect()
			if err == nil {
				err = command(client)
				client.Close()
			}
			results <- err
		}()
	}
	var all error
	for range 10 {
		all = errors.Join(all, <-results)
	}
	return all
}

func main() {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "golang.org/x/crypto" {
				fmt.Println("version", module.Version)
			}
		}
	}
	client, err := connect()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, feature := range []struct {
		name string
		run  func(*ssh.Client) error
	}{
		{"command", command}, {"stdin", stdin}, {"terminal", terminal}, {"files", files},
		{"forward", forward}, {"listener", listener}, {"many", many},
	} {
		if err := feature.run(client); err != nil {
			fmt.Printf("fail %s: %.300s\n", feature.name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Printf("ok %s\n", feature.name)
		}
	}
}
