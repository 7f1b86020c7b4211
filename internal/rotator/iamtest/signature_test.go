package iamtest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// The first two are of AWS's published test suite for Signature Version 4.
func TestSignature(t *testing.T) {
	t.Parallel()
	const (
		vanilla     = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
		form        = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
		urlencoded  = "application/x-www-form-urlencoded"
		hostAndDate = "host;x-amz-date"
		all         = "content-type;host;x-amz-date"
	)
	then := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for _, test := range []struct {
		name                             string
		body, contentType, signed, mac   string
		day, secret, host, date, another string
		now                              time.Time
		want                             bool
	}{
		{name: "post-vanilla", signed: hostAndDate, mac: vanilla, want: true},
		{name: "post-x-www-form-urlencoded", body: "Param1=value1", contentType: urlencoded, signed: all, mac: form, want: true},
		{name: "just in time", signed: hostAndDate, mac: vanilla, now: then.Add(5 * time.Minute), want: true},
		{name: "too late", signed: hostAndDate, mac: vanilla, now: then.Add(5*time.Minute + time.Second)},
		{name: "too early", signed: hostAndDate, mac: vanilla, now: then.Add(-6 * time.Minute)},
		{name: "another body", body: "Param1=value2", contentType: urlencoded, signed: all, mac: form},
		{name: "another secret", secret: "x", signed: hostAndDate, mac: vanilla},
		{name: "another host", host: "example.com", signed: hostAndDate, mac: vanilla},
		{name: "another day", day: "20150829", signed: hostAndDate, mac: vanilla},
		{name: "another date", date: "20150830T123601Z", signed: hostAndDate, mac: vanilla},
		{name: "no date", date: "today", signed: hostAndDate, mac: vanilla},
		{name: "another order", signed: "x-amz-date;host", mac: vanilla},
		{name: "no host", signed: "x-amz-date", mac: vanilla},
		{name: "a type that is not signed", contentType: urlencoded, signed: hostAndDate, mac: vanilla},
		{name: "a header of AWS that is not signed", another: "X-Amz-Target", signed: hostAndDate, mac: vanilla},
		{name: "no signature", signed: hostAndDate},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			or := func(given, byDefault string) string {
				if given == "" {
					return byDefault
				}
				return given
			}
			r := httptest.NewRequest(http.MethodPost, "https://"+or(test.host, "example.amazonaws.com")+"/", strings.NewReader(test.body))
			r.Header.Set("X-Amz-Date", or(test.date, "20150830T123600Z"))
			if test.contentType != "" {
				r.Header.Set("Content-Type", test.contentType)
			}
			if test.another != "" {
				r.Header.Set(test.another, "x")
			}
			sig, err := parseSignature("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/" + or(test.day, "20150830") +
				"/us-east-1/service/aws4_request, SignedHeaders=" + test.signed + ", Signature=" + test.mac)
			if err != nil {
				t.Fatal(err)
			}
			now := test.now
			if now.IsZero() {
				now = then
			}
			err = sig.verify(r, []byte(test.body), or(test.secret, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), now)
			if (err == nil) != test.want {
				t.Error(err)
			}
		})
	}
}

func TestSignatureForm(t *testing.T) {
	t.Parallel()
	for _, authorization := range []string{
		"",
		"Basic YTpi",
		"AWS4-HMAC-SHA256",
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE, SignedHeaders=host, Signature=00",
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws3_request, SignedHeaders=host, Signature=00",
	} {
		if _, err := parseSignature(authorization); err == nil {
			t.Errorf("%q is taken for a signature", authorization)
		}
	}
}
