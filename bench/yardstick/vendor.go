package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// vendor is a client of the API that bench/vendor serves.
type vendor struct {
	url    string
	client *http.Client
}

type index struct {
	Name      string            `json:"name"`
	Dimension int               `json:"dimension"`
	Metric    string            `json:"metric"`
	Replicas  int               `json:"replicas"`
	Tags      map[string]string `json:"tags"`
	State     string            `json:"state,omitempty"`
	Host      string            `json:"host,omitempty"`
}

type changes struct {
	Replicas int               `json:"replicas"`
	Tags     map[string]string `json:"tags"`
}

func newVendor(url string) *vendor {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The default of 2 idle connections a host would open one anew for nearly every call.
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 512, 512
	return &vendor{url: url, client: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// read returns nil for an index that does not exist.
func (v *vendor) read(ctx context.Context, name string) (*index, error) {
	found := &index{}
	status, err := v.call(ctx, http.MethodGet, "/indexes/"+name, nil, found)
	if status == http.StatusNotFound {
		return nil, nil
	}
	return found, err
}

func (v *vendor) create(ctx context.Context, want index) (*index, error) {
	made := &index{}
	_, err := v.call(ctx, http.MethodPost, "/indexes", want, made)
	return made, err
}

func (v *vendor) update(ctx context.Context, name string, to changes) error {
	_, err := v.call(ctx, http.MethodPatch, "/indexes/"+name, to, nil)
	return err
}

func (v *vendor) remove(ctx context.Context, name string) error {
	status, err := v.call(ctx, http.MethodDelete, "/indexes/"+name, nil, nil)
	if status == http.StatusNotFound {
		return nil
	}
	return err
}

func (v *vendor) call(ctx context.Context, method, path string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, v.url+path, body)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := v.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode >= 300 {
		return response.StatusCode, fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	if out == nil || len(raw) == 0 {
		return response.StatusCode, nil
	}
	return response.StatusCode, json.Unmarshal(raw, out)
}
