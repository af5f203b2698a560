package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
)

// settings are the part of Vault's configuration that the harness uses, under Vault's names.
type settings struct {
	APIAddress     string `json:"api_addr"`
	ClusterAddress string `json:"cluster_addr"`
	DisableMlock   bool   `json:"disable_mlock"`
	Listener       struct {
		TCP struct {
			Address        string `json:"address"`
			ClusterAddress string `json:"cluster_address"`
			Certificate    string `json:"tls_cert_file"`
			Key            string `json:"tls_key_file"`
			DisableTLS     bool   `json:"tls_disable"`
		} `json:"tcp"`
	} `json:"listener"`
	Storage struct {
		File map[string]string `json:"file"`
		Raft map[string]string `json:"raft"`
	} `json:"storage"`
}

// read takes the file apart; a setting that is not known is a fault.
func read(path string) (*settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var s settings
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if (s.Storage.File == nil) == (s.Storage.Raft == nil) {
		return nil, fmt.Errorf("%s: one storage, file or raft", path)
	}
	return &s, nil
}

// loopback refuses any other address.
func loopback(text string) (*net.TCPAddr, error) {
	address, err := net.ResolveTCPAddr("tcp", text)
	if err == nil && !address.IP.IsLoopback() {
		err = fmt.Errorf("%s is not on loopback", text)
	}
	return address, err
}
