package rotator

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestPostgreSQLInheritsNothing compares what a hostile environment makes of a
// configuration with what an empty one does. Every file that is named there, or
// that is where one is looked for, is a FIFO: who opens one waits for ever.
func TestPostgreSQLInheritsNothing(t *testing.T) {
	home := t.TempDir()
	file := func(name string) string {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file(".pgpass")
	file(".pg_service.conf")
	file(".postgresql/postgresql.crt")
	file(".postgresql/postgresql.key")
	file(".postgresql/root.crt")
	hostile := map[string]string{
		"PGHOST": "evil.example.com", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGDATABASE": "evil", "PGUSER": "evil", "PGPASSWORD": "evil",
		"PGPASSFILE": file("pass"), "PGSERVICE": "evil", "PGSERVICEFILE": file("services"),
		"PGSSLMODE": "allow", "PGSSLCERT": file("crt"), "PGSSLKEY": file("key"), "PGSSLROOTCERT": file("root"), "PGSSLPASSWORD": "evil", "PGSSLSNI": "0",
		"PGSSLNEGOTIATION": "direct", "PGSSLCERTMODE": "require", "PGREQUIREAUTH": "none", "PGCHANNELBINDING": "require", "PGGSSENCMODE": "require",
		"PGTARGETSESSIONATTRS": "standby", "PGMINPROTOCOLVERSION": "3.2", "PGMAXPROTOCOLVERSION": "3.2", "PGCONNECT_TIMEOUT": "1",
		"PGOPTIONS": "-c evil=1", "PGAPPNAME": "evil", "PGTZ": "evil", "PGCLIENTENCODING": "evil", "PGDATESTYLE": "evil", "PGKRBSRVNAME": "evil",
		"PGLOADBALANCEHOSTS": "random",
	}
	for name := range hostile {
		t.Setenv(name, "") // which puts back what was there
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	host, err := newDatabaseHost(databaseSettings(postgresqlType, nil), Host{})
	if err != nil {
		t.Fatal(err)
	}
	configure := func() *pgconn.Config {
		config, err := (&postgresql{host}).config(host.admin)
		if err != nil {
			t.Error(err)
			return nil
		}
		// Functions cannot be compared.
		config.DialFunc, config.LookupFunc, config.BuildFrontend, config.BuildContextWatcherHandler, config.OnPgError = nil, nil, nil, nil, nil
		return config
	}
	t.Setenv("HOME", t.TempDir())
	want := configure()
	t.Setenv("HOME", home)
	for name, value := range hostile {
		t.Setenv(name, value)
	}
	made := make(chan *pgconn.Config, 1)
	go func() { made <- configure() }()
	var got *pgconn.Config
	select {
	case got = <-made:
	case <-time.After(10 * time.Second):
		t.Fatal("a file is read")
	}
	if want == nil || !reflect.DeepEqual(got, want) {
		t.Fatal("the environment changes the configuration")
	}
	if got.Host != "db.example.com" || got.Port != 5432 || got.User != "admin" || got.Password != "secret" || got.Database != "postgres" ||
		got.TLSConfig == nil || got.TLSConfig.ServerName != "db.example.com" || got.TLSConfig.InsecureSkipVerify || len(got.Fallbacks) > 0 ||
		!maps.Equal(got.RuntimeParams, map[string]string{"application_name": "agentchains"}) {
		t.Error("the configuration is not that of the settings")
	}
}
