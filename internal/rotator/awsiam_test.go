package rotator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/outbound"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/rotator/iamtest"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

const awsUser = "ci-deployer"

func newAWS(given map[string]any, hosts ...string) (rotator.Rotator, error) {
	t := rotator.Types["aws-iam"]
	s := rotator.Settings{"username": awsUser}
	for _, f := range t.Fields {
		if f.Default != nil {
			s[f.Name] = f.Default
		}
	}
	maps.Copy(s, given)
	return t.New(s, rotator.Host{Hosts: outbound.Hosts(hosts)})
}

// awsCase is how a rotation begins.
type awsCase struct {
	name                string
	administered, first bool
}

var awsCases = []awsCase{
	{name: "by itself"},
	{name: "by an administrator", administered: true},
	{name: "the first key", administered: true, first: true},
}

// awsRun takes one rotation through its steps at a server, and keeps of the job
// what an engine would: what was saved.
type awsRun struct {
	t       *testing.T
	far     *iamtest.Server
	rotator rotator.Rotator
	saved   rotator.Job
	had     []iamtest.Key                      // before
	cancel  atomic.Pointer[context.CancelFunc] // of the step that runs
	full    bool                               // nothing can be saved
	errs    []error
}

func newAWSRun(t *testing.T, c awsCase) *awsRun {
	t.Helper()
	far := iamtest.New()
	t.Cleanup(far.Close)
	r := &awsRun{t: t, far: far}
	var admin iamtest.Key
	if c.administered {
		admin = far.AddKey("admin", true)
	}
	r.configure(far.URL, admin)
	r.saved = rotator.Job{ID: "1", Path: "prod/org/aws"}
	// The user is there in every case.
	old := far.AddKey(awsUser, false)
	if c.first {
		far.Remove(old.ID)
	} else {
		r.saved.Old.Values = map[string]sensitive.String{
			"AWS_ACCESS_KEY_ID":     sensitive.New(old.ID),
			"AWS_SECRET_ACCESS_KEY": sensitive.New(old.Secret),
			"AWS_REGION":            sensitive.New("eu-west-1"),
		}
	}
	r.had = far.Keys(awsUser)
	return r
}

// configure makes the rotator: with the key of an administrator, or without.
func (r *awsRun) configure(url string, admin iamtest.Key) {
	r.t.Helper()
	given := map[string]any{"iam_endpoint": url, "sts_endpoint": url, "propagation": 2 * time.Second}
	if admin.ID != "" {
		given["access_key_id"], given["secret_access_key"] = sensitive.New(admin.ID), sensitive.New(admin.Secret)
	}
	var err error
	if r.rotator, err = newAWS(given, "127.0.0.1"); err != nil {
		r.t.Fatal(err)
	}
}

// step calls one step with the job as it was last saved.
func (r *awsRun) step(do func(rotator.Rotator, context.Context, *rotator.Job) error) error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	r.cancel.Store(&cancel)
	job := r.saved
	job.New = copyVersion(job.New)
	job.Save = func(context.Context) error {
		if r.full {
			return errors.New("the storage is full")
		}
		r.saved.New = copyVersion(job.New)
		return nil
	}
	err := do(r.rotator, ctx, &job)
	if err == nil {
		r.saved.New = copyVersion(job.New)
	} else {
		r.errs = append(r.errs, err)
	}
	r.check()
	return err
}

// twice calls a step until it succeeds, and then once more.
func (r *awsRun) twice(do func(rotator.Rotator, context.Context, *rotator.Job) error) {
	r.t.Helper()
	for range 4 {
		if r.step(do) == nil {
			if err := r.step(do); err != nil {
				_ = r.step(do) // it was the second call that a fault hit
			}
			return
		}
	}
	r.t.Fatalf("a step goes on failing: %v", errors.Join(r.errs...))
}

// end ends the rotation: what goes has lost its values.
func (r *awsRun) end(promoted bool) {
	r.t.Helper()
	r.saved.Promoted = promoted
	if promoted {
		r.saved.Old.Values = nil
	} else {
		r.saved.New.Values = nil
	}
	r.twice(rotator.Rotator.Finish)
}

func (r *awsRun) knows(k iamtest.Key) bool {
	for _, v := range []rotator.Version{r.saved.Old, r.saved.New} {
		if v.Values["AWS_ACCESS_KEY_ID"].Reveal() == k.ID && v.Values["AWS_SECRET_ACCESS_KEY"].Reveal() == k.Secret {
			return true
		}
	}
	return false
}

// check is what holds at any time: two keys at most, and one that works and whose
// secret is known, if there was one before.
func (r *awsRun) check() {
	r.t.Helper()
	keys := r.far.Keys(awsUser)
	if len(keys) > 2 {
		r.t.Errorf("the user has %d keys", len(keys))
	}
	works := slices.ContainsFunc(keys, func(k iamtest.Key) bool { return k.Active && r.knows(k) })
	if len(r.had) > 0 && !works {
		r.t.Error("no key that is known works")
	}
}

// checkEnd is what holds when the rotation is over.
func (r *awsRun) checkEnd(promoted bool, faults int) {
	r.t.Helper()
	keys := r.far.Keys(awsUser)
	switch {
	case promoted && (len(keys) != 1 || !keys[0].Active || !r.knows(keys[0])):
		r.t.Errorf("the user has %d keys, want the new one", len(keys))
	case !promoted && !slices.Equal(keys, r.had):
		r.t.Errorf("the user has %d keys, want those from before", len(keys))
	case len(r.errs) > faults:
		r.t.Errorf("more errors than faults: %v", errors.Join(r.errs...))
	}
}

func copyVersion(v rotator.Version) rotator.Version {
	return rotator.Version{Values: maps.Clone(v.Values), Memo: maps.Clone(v.Memo)}
}

// awsEndings are the ways in which a rotation goes.
var awsEndings = map[string]func(r *awsRun) (promoted bool){
	"promoted": func(r *awsRun) bool {
		r.twice(rotator.Rotator.Create)
		r.twice(rotator.Rotator.Set)
		r.twice(rotator.Rotator.Test)
		r.end(true)
		return true
	},
	"aborted after its test": func(r *awsRun) bool {
		r.twice(rotator.Rotator.Create)
		r.twice(rotator.Rotator.Set)
		r.twice(rotator.Rotator.Test)
		r.end(false)
		return false
	},
	"aborted after one try": func(r *awsRun) bool {
		_ = r.step(rotator.Rotator.Create)
		r.end(false)
		return false
	},
	"aborted before its beginning": func(r *awsRun) bool {
		r.end(false)
		return false
	},
}

func TestAWSRotation(t *testing.T) {
	t.Parallel()
	for _, c := range awsCases {
		for ending, run := range awsEndings {
			t.Run(c.name+" "+ending, func(t *testing.T) {
				t.Parallel()
				r := newAWSRun(t, c)
				promoted := run(r)
				r.checkEnd(promoted, 0)
				if promoted && !c.first && r.saved.New.Values["AWS_REGION"].Reveal() != "eu-west-1" {
					t.Error("a variable that no template makes was not kept")
				}
			})
		}
	}
}

// TestAWSFaults breaks in at each point of each call, once and twice: with the
// answer cut, and with the step cancelled as well.
func TestAWSFaults(t *testing.T) {
	t.Parallel()
	for _, c := range awsCases {
		for ending, run := range awsEndings {
			var points []iamtest.Point
			dry := newAWSRun(t, c)
			dry.far.Hook(func(p iamtest.Point) bool {
				points = append(points, p)
				return true
			})
			run(dry)
			dry.far.Hook(nil)
			for n, at := range points {
				for _, fault := range []struct {
					times   int
					cancels bool
				}{{1, false}, {1, true}, {2, false}} {
					t.Run(fmt.Sprintf("%s %s/%d %s %+v", c.name, ending, n, at.Action, fault), func(t *testing.T) {
						t.Parallel()
						r := newAWSRun(t, c)
						seen, left := 0, fault.times
						r.far.Hook(func(p iamtest.Point) bool {
							seen++
							if seen <= n || p != at || left == 0 {
								return true
							}
							left--
							if fault.cancels {
								(*r.cancel.Load())()
							}
							return false
						})
						promoted := run(r)
						r.far.Hook(nil)
						if left == fault.times {
							t.Error("nothing broke")
						}
						r.checkEnd(promoted, fault.times)
					})
				}
			}
		}
	}
}

func TestAWSWaitsForANewKey(t *testing.T) {
	t.Parallel()
	r := newAWSRun(t, awsCases[0])
	r.far.Delay(3)
	r.twice(rotator.Rotator.Create)
	r.twice(rotator.Rotator.Test)
	r.end(true)
	r.checkEnd(true, 0)
}

func TestAWSTestEnds(t *testing.T) {
	t.Parallel()
	for _, cancels := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled=%v", cancels), func(t *testing.T) {
			t.Parallel()
			r := newAWSRun(t, awsCases[0])
			r.far.Delay(1000)
			r.twice(rotator.Rotator.Create)
			r.far.Hook(func(iamtest.Point) bool {
				if cancels {
					(*r.cancel.Load())()
				}
				return true
			})
			begun := time.Now()
			err := r.step(rotator.Rotator.Test)
			if took := time.Since(begun); err == nil || took > 20*time.Second || !cancels && took < 2*time.Second {
				t.Errorf("%v after %s", err, took)
			}
		})
	}
}

func TestAWSRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		with awsCase
		when func(r *awsRun)
		want string
	}{
		{"a key that nobody knows", awsCase{}, func(r *awsRun) { r.far.AddKey(awsUser, false) }, "delete it"},
		{"a key when there should be none", awsCase{administered: true, first: true}, func(r *awsRun) { r.far.AddKey(awsUser, false) }, "delete it"},
		{"a secret", awsCase{}, func(r *awsRun) { r.saved.Variable = "AWS_ACCESS_KEY_ID" }, "make it a group"},
		{"nothing to sign with", awsCase{}, func(r *awsRun) { r.saved.Old.Values, r.had = nil, nil }, "give the rotator access_key_id"},
		{"what cannot be saved", awsCase{}, func(r *awsRun) { r.full = true }, "the storage is full"},
		{"an administrator who is the user", awsCase{}, func(r *awsRun) { r.configure(r.far.URL, r.had[0]) }, "leave it out"},
		{"an answer that does not come", awsCase{}, func(r *awsRun) { r.far.Hook(func(iamtest.Point) bool { return false }) }, "list the access keys of ci-deployer: EOF"},
		{"a call that is cancelled", awsCase{}, func(r *awsRun) {
			r.far.Hook(func(iamtest.Point) bool {
				(*r.cancel.Load())()
				return false
			})
		}, "list the access keys of ci-deployer: context canceled"},
		{"a key that is no more", awsCase{}, func(r *awsRun) { r.far.Remove(r.had[0].ID); r.had = nil }, "InvalidClientTokenId"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newAWSRun(t, test.with)
			test.when(r)
			before := r.far.Keys(awsUser)
			err := r.step(rotator.Rotator.Create)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			if !slices.Equal(before, r.far.Keys(awsUser)) {
				t.Error("the keys are not those from before")
			}
		})
	}
}

// IAM lists a key for a while after its end.
func TestAWSOldKeyIsGone(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"UpdateAccessKey", "DeleteAccessKey"} {
		r := newAWSRun(t, awsCases[0])
		r.twice(rotator.Rotator.Create)
		r.far.Hook(func(p iamtest.Point) bool {
			if p.Action == action {
				r.far.Remove(r.had[0].ID)
			}
			return true
		})
		r.end(true)
		r.checkEnd(true, 0)
	}
}

// A version that was revoked has lost its values before the rotation begins.
func TestAWSAfterRevocation(t *testing.T) {
	t.Parallel()
	r := newAWSRun(t, awsCases[1])
	r.twice(rotator.Rotator.Create)
	r.end(true)
	r.saved = rotator.Job{ID: "2", Path: r.saved.Path, Old: rotator.Version{Memo: r.saved.New.Memo}}
	r.had = nil
	r.twice(rotator.Rotator.Create)
	r.twice(rotator.Rotator.Test)
	r.end(true)
	r.checkEnd(true, 0)
}

func TestAWSKeepsTheLastActiveKey(t *testing.T) {
	t.Parallel()
	r := newAWSRun(t, awsCases[1])
	r.twice(rotator.Rotator.Create)
	r.far.Remove(r.saved.New.Values["AWS_ACCESS_KEY_ID"].Reveal())
	r.saved.Promoted = true
	if err := r.step(rotator.Rotator.Finish); err == nil || !strings.Contains(err.Error(), "the old one, which stays") {
		t.Error(err)
	}
}

// TestAWSEnvironment is not parallel: it changes the environment, of which
// nothing may be seen at the far side.
func TestAWSEnvironment(t *testing.T) {
	const canary = "canary"
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_CONFIG_FILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME", "_X_AMZN_TRACE_ID",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_IAM", "AWS_ENDPOINT_URL_STS", "AWS_SDK_UA_APP_ID", "AWS_MAX_ATTEMPTS",
	} {
		t.Setenv(name, canary)
	}
	r := newAWSRun(t, awsCases[0])
	var (
		mu   sync.Mutex
		seen []string
	)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		seen = append(seen, fmt.Sprint(req.Header))
		mu.Unlock()
		r.far.ServeHTTP(w, req)
	}))
	defer front.Close()
	r.configure(front.URL, iamtest.Key{})
	r.twice(rotator.Rotator.Create)
	r.twice(rotator.Rotator.Test)
	r.end(true)
	r.checkEnd(true, 0)
	mu.Lock()
	defer mu.Unlock()
	if len(seen) == 0 || strings.Contains(fmt.Sprint(seen), canary) {
		t.Errorf("the far side sees %s", seen)
	}
}
