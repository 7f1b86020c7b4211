package agentchains

import (
	"fmt"
	"strings"
	"testing"
)

const awsDeploy = "groups/prod/org/aws-deploy"

func TestGroupLifecycle(t *testing.T) {
	both(t, func(e *env) {
		got := e.ok(update, awsDeploy, data{"values": data{"AWS_ACCESS_KEY_ID": "a long enough key id", "AWS_REGION": "us-west-2"}})
		e.is(got["masked"], "map[AWS_ACCESS_KEY_ID:a l...***... AWS_REGION:***...***]")
		e.is(e.ok(read, "reveal/prod/org/aws-deploy", nil)["values"], "map[AWS_ACCESS_KEY_ID:a long enough key id AWS_REGION:us-west-2]")

		e.is(e.ok(update, awsDeploy, data{"values": data{"AWS_REGION": "us-west-2", "AWS_ACCESS_KEY_ID": "a long enough key id"}})["current_version"], 1)
		e.is(e.ok(patch, awsDeploy, data{"values": data{"AWS_REGION": "eu-north-1"}})["pending_version"], 2)
		e.is(e.ok(read, "reveal/prod/org/aws-deploy", nil)["values"], "map[AWS_ACCESS_KEY_ID:a long enough key id AWS_REGION:eu-north-1]")
		e.promote("prod/org/aws-deploy")
		e.is(e.ok(patch, awsDeploy, data{"values": data{"AWS_REGION": nil}})["pending_version"], 3)
		e.promote("prod/org/aws-deploy")
		e.is(e.ok(patch, awsDeploy, data{"redact": []any{"AWS_ACCESS_KEY_ID"}})["redact"], "[AWS_ACCESS_KEY_ID]")
		e.fails(400, patch, awsDeploy, data{"redact": []any{"AWS_REGION"}}, "members of the group")
		e.fails(400, patch, awsDeploy, data{"values": data{"AWS_ACCESS_KEY_ID": nil, "X": "y"}}, "members of the group")
		e.is(e.ok(update, awsDeploy, data{"values": data{"X": "y"}, "redact": true})["pending_version"], 4)
		e.promote("prod/org/aws-deploy")
		e.fails(400, patch, awsDeploy, data{"values": data{"X": nil}}, "at least one member")
		e.fails(400, update, awsDeploy, data{"values": data{"X": nil}}, "null")
	})
}

func TestGroupLimits(t *testing.T) {
	both(t, func(e *env) {
		large := strings.Repeat("x", 60<<10)
		for _, bad := range []struct {
			values data
			text   string
		}{
			{data{}, "at least one member"},
			{data{"lower": "x"}, "a name in values must be an environment variable"},
			{data{"PATH": "x"}, "a name in values must not be a variable that makes programs load"},
			{data{"A": "", "B": "x"}, "the value of A must not be empty"},
			{data{"A": large, "B": large, "C": large}, "at most 131072 bytes together"},
		} {
			e.fails(400, update, awsDeploy, data{"values": bad.values}, bad.text)
		}
		e.fails(400, update, awsDeploy, data{"value": "x"}, "there is no field value here")
		e.is(len(e.stored("")), 0)
	})
}

// TestKinds keeps secrets and groups of like names apart.
func TestKinds(t *testing.T) {
	both(t, func(e *env) {
		e.write("prod/org/A", "secret")
		e.ok(update, "groups/prod/org/a", data{"values": data{"B": "group"}})
		e.ok(update, "scopes/chain/c", data{"agents": []any{data{"name": "X", "secrets": []any{"A"}, "groups": []any{"a"}}}})
		e.is(e.environment("prod/c/X"), "A:secret B:group")
		e.ok(remove, "groups/prod/org/a", nil)
		e.is(fmt.Sprint(e.keys("secrets/prod/org/", nil), e.keys("groups/", nil)), "A")
	})
}
