// Sends many requests to the API server at little cost, so that the bench leaves the cores to what
// it measures. A line of the input is one request: method, path and body, parted by tabs.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

func main() {
	server := flag.String("server", "", "URL of the API server")
	ca := flag.String("ca", "", "file with the certificate to verify it by")
	parallel := flag.Int("parallel", 20, "requests in flight")
	flag.Parse()
	client, err := newClient(*ca, *parallel)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	lines := make(chan string, *parallel)
	var failed atomic.Int64
	var workers sync.WaitGroup
	for range *parallel {
		workers.Go(func() {
			for line := range lines {
				if err := send(client, *server, line); err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		lines <- input.Text()
	}
	close(lines)
	workers.Wait()
	if input.Err() != nil || failed.Load() > 0 {
		os.Exit(1)
	}
}

func newClient(ca string, parallel int) (*http.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	authority := x509.NewCertPool()
	authority.AppendCertsFromPEM(pem)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: authority},
		MaxIdleConnsPerHost: parallel,
	}}, nil
}

func send(client *http.Client, server, line string) error {
	parts := strings.SplitN(line, "\t", 3)
	request, err := http.NewRequest(parts[0], server+parts[1], bytes.NewReader([]byte(parts[2])))
	if err != nil {
		return err
	}
	// Not an argument: those are for everyone to see.
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	if parts[0] == http.MethodPatch {
		request.Header.Set("Content-Type", "application/merge-patch+json")
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", parts[0], parts[1], response.Status, answer)
	}
	return err
}
