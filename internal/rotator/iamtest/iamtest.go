// Package iamtest is a server of the small part of AWS's IAM and STS that has to
// do with access keys. It checks signatures as AWS does, and lets a test break in
// at every call.
package iamtest

import (
	"crypto/rand"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Server serves IAM and STS at one URL.
type Server struct {
	URL string

	http *httptest.Server

	hookMu sync.Mutex // guards hook, and is held while it runs
	hook   func(Point) bool

	mu    sync.Mutex // guards the rest
	users map[string]*user
	keys  []*Key
	delay int
}

// Key is an access key.
type Key struct {
	User, ID, Secret string
	Active           bool

	delay int // the number of requests with it that are still refused
}

type user struct{ manages bool }

// Point is a place in a call at which a test may break in.
type Point struct {
	Action string
	Done   bool // the call has had its effect, and is not answered yet
}

// New returns a server that listens on a loopback port until Close.
func New() *Server {
	s := &Server{users: map[string]*user{}}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	return s
}

// Close stops the server when its calls have ended.
func (s *Server) Close() { s.http.Close() }

// AddKey gives a user an active key. A user who does not exist is made; with
// manages, one who may manage everybody's keys and not only its own.
func (s *Server) AddKey(name string, manages bool) Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[name] == nil {
		s.users[name] = &user{manages}
	}
	return *s.addKeyLocked(name)
}

// Remove deletes a key, as somebody would by hand.
func (s *Server) Remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(k *Key) bool { return k.ID == id })
}

// Keys returns the keys of a user, the oldest first.
func (s *Server) Keys(name string) []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []Key
	for _, k := range s.keys {
		if k.User == name {
			keys = append(keys, *k)
		}
	}
	return keys
}

// Delay makes the first n requests with each key be refused that is created by a
// call from now on, as happens while AWS passes a key on to all its machines.
func (s *Server) Delay(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = n
}

// Hook sets what is called at each point of each call, one at a time. When it
// returns false, the connection is cut without an answer. Nil is nothing.
func (s *Server) Hook(hook func(Point) bool) {
	s.hookMu.Lock()
	defer s.hookMu.Unlock()
	s.hook = hook
}

// ServeHTTP serves both services: their actions have different names.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Method != http.MethodPost || r.URL.RequestURI() != "/" {
		write(w, http.StatusBadRequest, failure{Code: "InvalidAction"})
		return
	}
	action := form.Get("Action")
	s.reach(Point{Action: action})
	result, refused := s.do(r, body, form)
	s.reach(Point{Action: action, Done: true})
	if refused != nil {
		write(w, refused.status, *refused)
		return
	}
	write(w, http.StatusOK, response{XMLName: xml.Name{Local: action + "Response"}, Result: result})
}

func (s *Server) reach(p Point) {
	s.hookMu.Lock()
	defer s.hookMu.Unlock()
	if s.hook != nil && !s.hook(p) {
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) do(r *http.Request, body []byte, form url.Values) (any, *failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	caller, refused := s.authenticateLocked(r, body, form.Get("Version"))
	if refused != nil {
		return nil, refused
	}
	action := form.Get("Action")
	if action == "GetCallerIdentity" {
		return identity{XMLName: xml.Name{Local: action + "Result"}, Account: account, UserID: caller.User, ARN: "arn:aws:iam::" + account + ":user/" + caller.User}, nil
	}
	name := form.Get("UserName")
	switch {
	case name != caller.User && !s.users[caller.User].manages:
		return nil, &failure{status: http.StatusForbidden, Code: "AccessDenied"}
	case s.users[name] == nil:
		return nil, &failure{status: http.StatusNotFound, Code: "NoSuchEntity"}
	}
	switch action {
	case "ListAccessKeys":
		keys := []member{}
		for _, k := range s.keys {
			if k.User == name {
				keys = append(keys, k.member())
			}
		}
		return listed{XMLName: xml.Name{Local: action + "Result"}, Keys: keys}, nil
	case "CreateAccessKey":
		if n := len(slices.DeleteFunc(slices.Clone(s.keys), func(k *Key) bool { return k.User != name })); n >= 2 {
			return nil, &failure{status: http.StatusConflict, Code: "LimitExceeded"}
		}
		k := s.addKeyLocked(name)
		k.delay = s.delay
		m := k.member()
		m.Secret = k.Secret
		return created{XMLName: xml.Name{Local: action + "Result"}, Key: m}, nil
	case "UpdateAccessKey", "DeleteAccessKey":
		i := slices.IndexFunc(s.keys, func(k *Key) bool { return k.User == name && k.ID == form.Get("AccessKeyId") })
		switch status := form.Get("Status"); {
		case i < 0:
			return nil, &failure{status: http.StatusNotFound, Code: "NoSuchEntity"}
		case action == "DeleteAccessKey":
			s.keys = slices.Delete(s.keys, i, i+1)
		case status == "Active" || status == "Inactive":
			s.keys[i].Active = status == "Active"
		default:
			return nil, &failure{status: http.StatusBadRequest, Code: "ValidationError"}
		}
		return nil, nil
	}
	return nil, &failure{status: http.StatusBadRequest, Code: "InvalidAction"}
}

// authenticateLocked returns the key that signed a request.
func (s *Server) authenticateLocked(r *http.Request, body []byte, version string) (*Key, *failure) {
	sig, err := parseSignature(r.Header.Get("Authorization"))
	if err != nil || sig.service != services[version] {
		return nil, &failure{status: http.StatusForbidden, Code: "IncompleteSignature"}
	}
	i := slices.IndexFunc(s.keys, func(k *Key) bool { return k.ID == sig.keyID })
	if i < 0 || !s.keys[i].Active {
		return nil, &failure{status: http.StatusForbidden, Code: "InvalidClientTokenId"}
	}
	k := s.keys[i]
	if k.delay > 0 {
		k.delay--
		return nil, &failure{status: http.StatusForbidden, Code: "InvalidClientTokenId"}
	}
	if err := sig.verify(r, body, k.Secret, time.Now()); err != nil {
		return nil, &failure{status: http.StatusForbidden, Code: "SignatureDoesNotMatch"}
	}
	return k, nil
}

func (s *Server) addKeyLocked(name string) *Key {
	k := &Key{User: name, ID: "AKIA" + rand.Text()[:16], Secret: (rand.Text() + rand.Text())[:40], Active: true}
	s.keys = append(s.keys, k)
	return k
}

const account = "123456789012"

// services are the names that requests are signed for, by the version of an API.
var services = map[string]string{"2010-05-08": "iam", "2011-06-15": "sts"}

// The rest is the form of the answers.

type response struct {
	XMLName   xml.Name
	Result    any
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

type listed struct {
	XMLName     xml.Name
	Keys        []member `xml:"AccessKeyMetadata>member"`
	IsTruncated bool
}

type created struct {
	XMLName xml.Name
	Key     member `xml:"AccessKey"`
}

type identity struct {
	XMLName xml.Name
	Account string
	UserID  string `xml:"UserId"`
	ARN     string `xml:"Arn"`
}

type member struct {
	UserName string
	ID       string `xml:"AccessKeyId"`
	Status   string
	Secret   string `xml:"SecretAccessKey,omitempty"`
}

func (k *Key) member() member {
	status := "Inactive"
	if k.Active {
		status = "Active"
	}
	return member{UserName: k.User, ID: k.ID, Status: status}
}

type failure struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	status  int
	Code    string `xml:"Error>Code"`
	Message string `xml:"Error>Message"`
}

func write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(answer) // it fails only when the client has gone
}
