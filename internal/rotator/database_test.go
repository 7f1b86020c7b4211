package rotator

import (
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strings"
	"testing"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// The user, salt and iterations of RFC 7677; PostgreSQL's form of their keys.
func TestSCRAMVerifier(t *testing.T) {
	t.Parallel()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	const want = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	if got, err := scramVerifier("pencil", salt); got != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

// What servers of MySQL stored for these passwords.
func TestMySQLHashes(t *testing.T) {
	t.Parallel()
	if got := nativeHash("password"); got != "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19" {
		t.Error(got)
	}
	for password, stored := range map[string]string{
		"foobar":          "24412430303524031A69251C34295C4B35167C7F1E5A7B63091349503974624D34504B5A424679354856336868686F52485A736E4A733368786E427575516C73446469496537",
		"testpassword123": "24412430303524393D02673221785B414A4E5F02073711301659116B446B76753345617A4D7530635548526D3678746F6B75564835553334346932572E332F704C4856477131",
	} {
		want, err := hex.DecodeString(stored)
		if err != nil {
			t.Fatal(err)
		}
		if got := cachingSHA2Hash(password, string(want[7:7+cachingSHA2Salt])); got != string(want) {
			t.Errorf("the hash of %s is %q, want %q", password, got, want)
		}
	}
	// What the C library's crypt makes of a password longer than a block of SHA-256.
	const want = "s7EgrTOfuZmBir4a2nVpJR7OimGkv7STfhBFSup4ul4"
	salt := strings.Repeat("b", 16)
	if got := cachingSHA2Hash(strings.Repeat("a", 100), salt); got != "$A$005$"+salt+want {
		t.Errorf("the hash of a long password is %q", got)
	}
}

func databaseSettings(typ *Type, change Settings) Settings {
	s := Settings{"host": "db.example.com", "admin_username": "admin", "admin_password": sensitive.New("secret"), "usernames": []string{"app_a", "app_b"}}
	for _, field := range typ.Fields {
		if field.Default != nil {
			s[field.Name] = field.Default
		}
	}
	maps.Copy(s, change)
	return s
}

func TestDatabaseSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		typ    *Type
		change Settings
		want   string // the beginning of the error
	}{
		{postgresqlType, nil, ""},
		{postgresqlType, Settings{"usernames": []string{"app"}}, ""},
		{postgresqlType, Settings{"usernames": []string{}}, "usernames "},
		{postgresqlType, Settings{"usernames": []string{"a", "b", "c"}}, "usernames "},
		{postgresqlType, Settings{"usernames": []string{"a", "a"}}, "usernames "},
		{postgresqlType, Settings{"usernames": []string{"a", ""}}, "usernames "},
		{postgresqlType, Settings{"usernames": []string{"a\x00b"}}, "usernames "},
		{postgresqlType, Settings{"usernames": []string{strings.Repeat("a", 64)}}, "usernames "},
		{postgresqlType, Settings{"usernames": []string{"admin"}}, "usernames "},
		{postgresqlType, Settings{"port": 0}, "port "},
		{postgresqlType, Settings{"port": 65536}, "port "},
		{postgresqlType, Settings{"length": 15}, "length "},
		{postgresqlType, Settings{"tls": "disable"}, "tls "},
		{postgresqlType, Settings{"tls": "disable", "host": "localhost"}, "tls "},
		{postgresqlType, Settings{"tls": "disable", "host": "127.0.0.1"}, ""},
		{postgresqlType, Settings{"tls": "disable", "host": "::1"}, ""},
		{postgresqlType, Settings{"tls": "require"}, "tls "},
		{postgresqlType, Settings{"ca_pem": "no certificate"}, "ca_pem "},
		{postgresqlType, Settings{"template": map[string]string{"value": "{{username}}"}}, "template "},
		{postgresqlType, Settings{"template": map[string]string{"value": "{{password}}{{password}}"}}, "template "},
		{postgresqlType, Settings{"template": map[string]string{"value": "{{password}}{{host}}"}}, "template "},
		{postgresqlType, Settings{"template": map[string]string{"PGUSER": "{{username}}", "PGPASSWORD": "{{password}}", "URL": "x:{{password}}"}}, ""},
		{mysqlType, nil, ""},
		{mysqlType, Settings{"length": 257}, "length "},
		{mysqlType, Settings{"auth_plugin": "sha256_password"}, "auth_plugin "},
		{mysqlType, Settings{"dual_password": true}, "dual_password "},
		{mysqlType, Settings{"dual_password": true, "usernames": []string{"app"}}, ""},
	} {
		_, err := test.typ.New(databaseSettings(test.typ, test.change), Host{})
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s with %v: the error is %v, want one about %q", test.typ.Name, test.change, err, test.want)
		}
	}
}

func TestDatabaseOverlaps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		typ    *Type
		change Settings
		want   bool
	}{
		{postgresqlType, nil, true},
		{postgresqlType, Settings{"usernames": []string{"app"}}, false},
		{mysqlType, nil, true},
		{mysqlType, Settings{"usernames": []string{"app"}}, false},
		{mysqlType, Settings{"usernames": []string{"app"}, "dual_password": true}, true},
	} {
		if got := test.typ.Overlaps(databaseSettings(test.typ, test.change)); got != test.want {
			t.Errorf("%s with %v: %v", test.typ.Name, test.change, got)
		}
	}
}

// TestDatabaseTurns looks at whose turn it is, after a version of whom.
func TestDatabaseTurns(t *testing.T) {
	t.Parallel()
	const url = "postgresql://%s:abc@db.example.com:5432/postgres"
	group := map[string]string{"PGUSER": "{{username}}", "PGPASSWORD": "{{password}}"}
	for _, test := range []struct {
		name     string
		template map[string]string
		old      map[string]string
		memo     string
		want     string
	}{
		{"no old version", nil, nil, "", "app_a"},
		{"the first user by memo", nil, map[string]string{"URL": "x"}, "app_a", "app_b"},
		{"the second user by memo", nil, map[string]string{"URL": "x"}, "app_b", "app_a"},
		{"another user by memo", nil, map[string]string{"URL": "x"}, "app_c", "app_a"},
		{"the first user by value", nil, map[string]string{"URL": strings.Replace(url, "%s", "app_a", 1)}, "", "app_b"},
		{"the second user by value", nil, map[string]string{"URL": strings.Replace(url, "%s", "app_b", 1)}, "", "app_a"},
		{"a value of another form", nil, map[string]string{"URL": "x"}, "", "app_b"},
		{"the first user of a group", group, map[string]string{"PGUSER": "app_a", "PGPASSWORD": "abc"}, "", "app_b"},
		{"the second user of a group", group, map[string]string{"PGUSER": "app_b", "PGPASSWORD": "abc", "PGHOST": "h"}, "", "app_a"},
	} {
		r, err := postgresqlType.New(databaseSettings(postgresqlType, Settings{"template": test.template}), Host{})
		if err != nil {
			t.Fatal(err)
		}
		job := &Job{Path: "prod/org/URL"}
		if test.template == nil {
			job.Variable = "URL"
		}
		for name, value := range test.old {
			if job.Old.Values == nil {
				job.Old.Values = map[string]sensitive.String{}
			}
			job.Old.Values[name] = sensitive.New(value)
		}
		if test.memo != "" {
			job.Old.Memo = map[string]sensitive.String{"username": sensitive.New(test.memo)}
		}
		if err := r.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if got := job.New.Memo["username"].Reveal(); got != test.want {
			t.Errorf("%s: it is the turn of %s, want %s", test.name, got, test.want)
		}
		if password, ok := r.(*database).password(job, job.New.Values, test.want); !ok || len(password) != 32 {
			t.Errorf("%s: the new password is not found again", test.name)
		}
		for name := range test.old {
			if job.New.Values[name].Len() == 0 {
				t.Errorf("%s: %s is empty", test.name, name)
			}
		}
	}
}

func TestDatabasePasswordByHand(t *testing.T) {
	t.Parallel()
	const url = "postgresql://app_a:{{password}}@db.example.com:5432/postgres"
	for value, want := range map[string]string{
		strings.Replace(url, "{{password}}", "s3-._~", 1):                "s3-._~",
		strings.Replace(url, "{{password}}", "p%40ss", 1):                "", // it stands for p@ss
		strings.Replace(url, "{{password}}", "p@ss", 1):                  "",
		strings.Replace(url, "{{password}}", "", 1):                      "",
		strings.Replace(url, "{{password}}", "abc", 1) + "?sslmode=none": "",
		strings.Replace(url, "app_a:{{password}}", "app_b:abc", 1):       "",
		"": "",
	} {
		r, err := postgresqlType.New(databaseSettings(postgresqlType, nil), Host{})
		if err != nil {
			t.Fatal(err)
		}
		got, ok := r.(*database).password(&Job{Variable: "URL"}, map[string]sensitive.String{"URL": sensitive.New(value)}, "app_a")
		if ok != (want != "") || ok && got != want {
			t.Errorf("the password of %q is %q, %v, want %q", value, got, ok, want)
		}
	}
}
