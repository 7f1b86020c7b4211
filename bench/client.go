//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// client talks to Vault over connections of its own, which stay open.
type client struct {
	http    *http.Client
	address string
	token   string
}

// body is a JSON object.
type body = map[string]any

func newClient(address, token string) *client {
	return &client{&http.Client{Transport: &http.Transport{}}, address, token}
}

// request returns a request that can be sent any number of times.
func (c *client) request(ctx context.Context, method, path string, content []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.address+"/v1/"+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Token", c.token)
	return req, nil
}

// send sends a request and returns the answer's body.
func (c *client) send(req *http.Request) ([]byte, error) {
	var err error
	if req.Body, err = req.GetBody(); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, resp.Status, strings.TrimSpace(string(answer)))
	}
	return answer, nil
}

// call sends content as JSON, and reads the answer's JSON unless answer is nil.
func (c *client) call(ctx context.Context, method, path string, content body, answer any) error {
	var encoded []byte
	if content != nil {
		var err error
		if encoded, err = json.Marshal(content); err != nil {
			return err
		}
	}
	req, err := c.request(ctx, method, path, encoded)
	if err != nil {
		return err
	}
	raw, err := c.send(req)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(raw, answer)
}

func (c *client) get(ctx context.Context, path string, answer any) error {
	return c.call(ctx, http.MethodGet, path, nil, answer)
}

// put sends content to a path whose answer says nothing of interest.
func (c *client) put(ctx context.Context, path string, content body) error {
	return c.call(ctx, http.MethodPut, path, content, nil)
}
