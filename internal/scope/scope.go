// Package scope holds the rules of who sees which secret: names, scopes, chain
// definitions and the order of resolution. It knows nothing of Vault.
package scope

import (
	"errors"
	"strings"
)

// A Kind says which door an entry is reached by.
type Kind string

const (
	Secret Kind = "secrets" // one environment variable
	Group  Kind = "groups"  // several variables that travel together
)

// Noun returns the kind as a word for one entry.
func (k Kind) Noun() string { return strings.TrimSuffix(string(k), "s") }

// A Scope says whose an entry is. Exactly one of its forms is set: Project;
// Chain; Chain and Agent; or nothing, which is the whole organisation.
type Scope struct {
	Project string
	Chain   string
	Agent   string
}

// Path returns the scope as it is written in a path of the API.
func (s Scope) Path() string {
	switch {
	case s.Agent != "":
		return "agent/" + s.Chain + "/" + s.Agent
	case s.Chain != "":
		return "chain/" + s.Chain
	case s.Project != "":
		return "project/" + s.Project
	}
	return "org"
}

// String returns the scope as it is written for people, as in
// agent:deploy-pipeline/Deployer.
func (s Scope) String() string {
	return strings.Replace(s.Path(), "/", ":", 1)
}

// shared reports whether more than one chain can see entries of the scope, so
// that their chains_allowed matters.
func (s Scope) shared() bool { return s.Chain == "" }

// A Place is where entries are stored: a scope in an environment, or in All.
type Place struct {
	Environment string
	Scope       Scope
}

// Path returns the place as it is written in a path of the API.
func (p Place) Path() string { return p.Environment + "/" + p.Scope.Path() }

// An Address names one entry.
type Address struct {
	Place
	Kind Kind
	Name string
}

// Path returns the address as it is written in a path of the API, below the door.
func (a Address) Path() string { return a.Place.Path() + "/" + a.Name }

var errNoScope = errors.New("the path must be <environment>/<scope>/<name>, with a scope of org, project/<project>, chain/<chain> or agent/<chain>/<agent>")

// ParseAddress reads an address of the given kind, such as
// prod/chain/deploy-pipeline/DATABASE_URL. Whether the environment exists is
// not its business.
func ParseAddress(kind Kind, path string) (Address, error) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return Address{}, errNoScope
	}
	place, err := ParsePlace(path[:at])
	if err != nil {
		return Address{}, err
	}
	name := path[at+1:]
	switch {
	case kind == Group && CheckVariable(name) == nil:
		return Address{}, errors.New("the name in the path is that of a secret: use secrets/, or a group's name in lower case")
	case kind == Group:
		err = prefix("the group in the path ", CheckGroup(name))
	case CheckGroup(name) == nil:
		return Address{}, errors.New("the name in the path is that of a group: use groups/, or a variable's name in upper case")
	default:
		err = prefix("the secret in the path ", CheckVariable(name))
	}
	return Address{place, kind, name}, err
}

// KindOf tells secrets from groups by the last segment of a path: a group's
// name begins with a lower-case letter, which a variable's cannot.
func KindOf(path string) Kind {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name != "" && 'a' <= name[0] && name[0] <= 'z' {
		return Group
	}
	return Secret
}

// ParsePlace reads a place, such as prod/agent/deploy-pipeline/Deployer.
func ParsePlace(path string) (Place, error) {
	environment, rest, _ := strings.Cut(path, "/")
	if environment != All {
		if err := prefix("the environment in the path ", CheckEnvironment(environment)); err != nil {
			return Place{}, err
		}
	}
	word, name, named := strings.Cut(rest, "/")
	s := Scope{}
	var err error
	switch word {
	case "org":
		if named {
			err = errNoScope
		}
	case "project":
		s.Project = name
		err = prefix("the project in the path ", CheckSegment(name))
	case "chain":
		s.Chain = name
		err = prefix("the chain in the path ", CheckChain(name))
	case "agent":
		s.Chain, s.Agent, err = ParseAgent(name)
	default:
		err = errNoScope
	}
	return Place{environment, s}, err
}

// ParseAgent reads <chain>/<agent>.
func ParseAgent(path string) (chain, agent string, err error) {
	at := strings.LastIndexByte(path, '/')
	if at < 0 {
		return "", "", errors.New("the path must end in <chain>/<agent>")
	}
	chain, agent = path[:at], path[at+1:]
	if err := prefix("the chain in the path ", CheckChain(chain)); err != nil {
		return "", "", err
	}
	return chain, agent, prefix("the agent in the path ", CheckSegment(agent))
}

// CheckPrefix reports what is wrong with the beginning of a path that is to be
// listed: any number of whole segments.
func CheckPrefix(path string) error {
	if path == "" {
		return nil
	}
	for _, segment := range strings.Split(path, "/") {
		if err := prefix("each segment of the path ", CheckSegment(segment)); err != nil {
			return err
		}
	}
	return nil
}

func prefix(subject string, err error) error {
	if err == nil {
		return nil
	}
	return errors.New(subject + err.Error())
}
