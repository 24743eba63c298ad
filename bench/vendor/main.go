// A vendor that is never the bottleneck: the example vendor's API with latency, a rate limit,
// errors and pages by choice. It speaks the same REST as tests/example.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type index map[string]any

// What goes wrong: a share of the calls fails with 500, and of more than limit a second (0: no
// limit) each gets a 429.
type trouble struct {
	errors, limit float64
}

type vendor struct {
	mu      sync.RWMutex
	indexes map[string]index

	latency atomic.Int64 // nanoseconds
	trouble atomic.Pointer[trouble]
	page    int

	tokens   float64
	filledAt time.Time

	calls     [5]atomic.Int64 // GET, LIST, POST, PATCH, DELETE
	lists     atomic.Int64    // LISTs of a first page
	throttled atomic.Int64
	failed    atomic.Int64
	edited    sync.Map // name -> unix nanoseconds of the last POST or PATCH
}

const (
	get = iota
	list
	post
	patch
	remove
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	latency := flag.Duration("latency", 20*time.Millisecond, "time that every call takes")
	errors := flag.Float64("errors", 0, "share of calls that fail with 500")
	page := flag.Int("page", 500, "items in a page of a list")
	limit := flag.Float64("limit", 0, "calls a second before 429; 0: none")
	flag.Parse()
	v := &vendor{
		indexes: map[string]index{}, page: *page, filledAt: time.Now(),
	}
	v.trouble.Store(&trouble{*errors, *limit})
	v.latency.Store(int64(*latency))
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	panic(http.Serve(listener, v))
}

func (v *vendor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path { // what the bench asks, at once
	case "/stats":
		v.stats(w)
		return
	case "/edited":
		v.tellEdited(w)
		return
	case "/latency":
		v.changeLatency(w, r.URL.Query().Get("to"))
		return
	case "/trouble":
		v.changeTrouble(w, r.URL.Query().Get("errors"), r.URL.Query().Get("limit"))
		return
	}
	if v.refuse(w) {
		return
	}
	time.Sleep(time.Duration(v.latency.Load()))
	if errors := v.trouble.Load().errors; errors > 0 && rand.Float64() < errors {
		v.failed.Add(1)
		answer(w, 500, index{"message": "internal error"})
		return
	}
	name, one := strings.CutPrefix(r.URL.Path, "/indexes/")
	switch {
	case r.URL.Path == "/whoami":
		answer(w, 200, index{"account": "bench"})
	case r.URL.Path == "/indexes" && r.Method == http.MethodGet:
		v.list(w, r.URL.Query().Get("after"))
	case r.URL.Path == "/indexes" && r.Method == http.MethodPost:
		v.create(w, r)
	case one && r.Method == http.MethodGet:
		v.calls[get].Add(1)
		v.mu.RLock()
		found := v.indexes[name]
		v.mu.RUnlock()
		if found == nil {
			answer(w, 404, index{"message": "not found"})
			return
		}
		answer(w, 200, found)
	case one && r.Method == http.MethodPatch:
		v.change(w, r, name)
	case one && r.Method == http.MethodDelete:
		v.calls[remove].Add(1)
		v.mu.Lock()
		found := v.indexes[name]
		delete(v.indexes, name)
		v.mu.Unlock()
		if found == nil {
			answer(w, 404, index{"message": "not found"})
			return
		}
		w.WriteHeader(http.StatusAccepted)
	default:
		answer(w, 405, index{"message": "no such call"})
	}
}

func (v *vendor) create(w http.ResponseWriter, r *http.Request) {
	v.calls[post].Add(1)
	made := index{}
	if json.NewDecoder(r.Body).Decode(&made) != nil || made["name"] == nil {
		answer(w, 400, index{"message": "name is missing"})
		return
	}
	name := made["name"].(string)
	made["state"], made["host"] = "ready", name+".vendor.example"
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.indexes[name] != nil {
		answer(w, 409, index{"message": "exists"})
		return
	}
	v.indexes[name] = made
	v.edited.Store(name, time.Now().UnixNano())
	answer(w, 201, made)
}

func (v *vendor) change(w http.ResponseWriter, r *http.Request, name string) {
	v.calls[patch].Add(1)
	changes := index{}
	if json.NewDecoder(r.Body).Decode(&changes) != nil {
		answer(w, 400, index{"message": "not JSON"})
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	found := v.indexes[name]
	if found == nil {
		answer(w, 404, index{"message": "not found"})
		return
	}
	changed := index{}
	for key, value := range found {
		changed[key] = value
	}
	for key, value := range changes {
		changed[key] = value
	}
	v.indexes[name] = changed
	v.edited.Store(name, time.Now().UnixNano())
	answer(w, 200, changed)
}

func (v *vendor) list(w http.ResponseWriter, after string) {
	v.calls[list].Add(1)
	if after == "" {
		v.lists.Add(1)
	}
	v.mu.RLock()
	names := make([]string, 0, len(v.indexes))
	for name := range v.indexes {
		if name > after {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var next any
	if len(names) > v.page {
		names = names[:v.page]
		next = names[v.page-1]
	}
	items := make([]index, len(names))
	for i, name := range names {
		items[i] = v.indexes[name]
	}
	v.mu.RUnlock()
	answer(w, 200, index{"items": items, "next": next})
}

func (v *vendor) refuse(w http.ResponseWriter) bool {
	limit := v.trouble.Load().limit
	if limit == 0 {
		return false
	}
	v.mu.Lock()
	now := time.Now()
	v.tokens = min(limit, v.tokens+now.Sub(v.filledAt).Seconds()*limit)
	v.filledAt = now
	short := v.tokens < 1
	if !short {
		v.tokens--
	}
	v.mu.Unlock()
	if short {
		v.throttled.Add(1)
		w.Header().Set("Retry-After", "1")
		answer(w, 429, index{"message": "slow down"})
	}
	return short
}

func (v *vendor) stats(w http.ResponseWriter) {
	v.mu.RLock()
	held := len(v.indexes)
	v.mu.RUnlock()
	answer(w, 200, index{
		"held": held, "throttled": v.throttled.Load(), "failed": v.failed.Load(), "lists": v.lists.Load(),
		"get": v.calls[get].Load(), "list": v.calls[list].Load(), "post": v.calls[post].Load(),
		"patch": v.calls[patch].Load(), "delete": v.calls[remove].Load(),
	})
}

func (v *vendor) tellEdited(w http.ResponseWriter) {
	edited := index{}
	v.edited.Range(func(name, at any) bool {
		edited[name.(string)] = at
		return true
	})
	answer(w, 200, edited)
}

func (v *vendor) changeLatency(w http.ResponseWriter, to string) {
	latency, err := time.ParseDuration(to)
	if err != nil {
		answer(w, 400, index{"message": err.Error()})
		return
	}
	v.latency.Store(int64(latency))
	answer(w, 200, index{"latency": latency.String()})
}

func (v *vendor) changeTrouble(w http.ResponseWriter, errors, limit string) {
	share, err := strconv.ParseFloat(errors, 64)
	if err != nil {
		answer(w, 400, index{"message": err.Error()})
		return
	}
	most, err := strconv.ParseFloat(limit, 64)
	if err != nil {
		answer(w, 400, index{"message": err.Error()})
		return
	}
	v.trouble.Store(&trouble{share, most})
	answer(w, 200, index{"errors": share, "limit": most})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
