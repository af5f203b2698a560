package main

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"github.com/hashicorp/go-hclog"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/physical/raft"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// listen binds the API's address.
func listen(s *settings) (net.Listener, error) {
	address, err := loopback(s.Listener.TCP.Address)
	if err != nil {
		return nil, err
	}
	listener, err := net.ListenTCP("tcp", address)
	if err != nil || s.Listener.TCP.DisableTLS {
		return listener, err
	}
	pair, err := tls.LoadX509KeyPair(s.Listener.TCP.Certificate, s.Listener.TCP.Key)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

// open makes the core over its storage, and the handler of its API.
func open(s *settings, log hclog.Logger) (*vault.Core, http.Handler, error) {
	config := &vault.CoreConfig{
		RedirectAddr:       s.APIAddress,
		Logger:             log,
		DisableMlock:       s.DisableMlock,
		LogicalBackends:    secrets,
		CredentialBackends: logins,
		AuditBackends:      audits,
		BuiltinRegistry:    builtin{},
	}
	var peers *net.TCPAddr
	var err error
	if s.Storage.Raft != nil {
		config.StorageType, config.ClusterAddr = "raft", s.ClusterAddress
		if peers, err = loopback(s.Listener.TCP.ClusterAddress); err == nil {
			config.Physical, err = raft.NewRaftBackend(s.Storage.Raft, log)
		}
	} else {
		config.StorageType = "file"
		config.Physical, err = file.NewFileBackend(s.Storage.File, log)
	}
	if err != nil {
		return nil, nil, err
	}
	if shared, can := config.Physical.(physical.HABackend); can {
		config.HAPhysical = shared
	}
	core, err := vault.NewCore(config)
	if err != nil {
		return nil, nil, err
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{
		Core: core,
		ListenerConfig: &configutil.Listener{
			Address:            s.Listener.TCP.Address,
			MaxRequestSize:     vaulthttp.DefaultMaxRequestSize,
			MaxRequestDuration: vault.DefaultMaxRequestDuration,
		},
	})
	if peers != nil {
		core.SetClusterListenerAddrs([]*net.TCPAddr{peers})
		core.SetClusterHandler(handler)
	}
	return core, handler, nil
}
