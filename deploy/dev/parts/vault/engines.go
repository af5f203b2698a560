package main

import (
	"github.com/hashicorp/vault-plugin-auth-jwt"
	"github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/audit/file"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/ssh"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// factories make engines by the name under which they are mounted.
type factories map[string]logical.Factory

var (
	secrets = factories{"ssh": ssh.Factory}
	logins  = factories{
		"approle":    approle.Factory,
		"jwt":        jwtauth.Factory,
		"oidc":       jwtauth.Factory,
		"kubernetes": kubeauth.Factory,
	}
	audits = map[string]audit.Factory{"file": file.Factory}
)

// builtin tells the core which engines are compiled in: it asks before it mounts one.
type builtin struct{}

func of(kind consts.PluginType) factories {
	switch kind {
	case consts.PluginTypeSecrets:
		return secrets
	case consts.PluginTypeCredential:
		return logins
	default:
		return nil
	}
}

func (builtin) Contains(name string, kind consts.PluginType) bool {
	_, found := of(kind)[name]
	return found
}

func (builtin) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := of(kind)[name]
	return func() (interface{}, error) { return factory, nil }, found
}

func (builtin) Keys(kind consts.PluginType) []string {
	names := make([]string, 0, len(of(kind)))
	for name := range of(kind) {
		names = append(names, name)
	}
	return names
}

func (b builtin) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, b.Contains(name, kind)
}

func (builtin) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
