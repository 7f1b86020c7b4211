package scope

import (
	"errors"
	"regexp"
	"strings"
)

// All is the environment of entries that hold in every environment. It is a
// place to store, not one to resolve.
const All = "all"

const maxChainSegments = 4

var (
	environmentPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	segmentPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	variablePattern    = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,127}$`)
	groupPattern       = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

	// keyPattern is what the keys of well-known issuers look like. A name that
	// matches is a key that somebody pasted into the wrong place.
	keyPattern = regexp.MustCompile(`^(` + strings.Join([]string{
		`sk-(proj|ant|svcacct|or|live|test)-[A-Za-z0-9_-]{8,}`, // OpenAI, Anthropic, OpenRouter
		`sk-[A-Za-z0-9]{16,}`,                                // OpenAI, older
		`[srp]k_(live|test)_[A-Za-z0-9]{8,}`,                 // Stripe
		`(AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}`,                  // AWS
		`gh[pousr]_[A-Za-z0-9]{12,}`,                         // GitHub
		`github_pat_[A-Za-z0-9_]{12,}`,                       // GitHub, fine-grained
		`glpat-[A-Za-z0-9_-]{12,}`,                           // GitLab
		`xox[abeprs]-[A-Za-z0-9-]{10,}`,                      // Slack
		`AIza[A-Za-z0-9_-]{30,}`,                             // Google
		`npm_[A-Za-z0-9]{30,}`,                               // npm
		`hv[bs][._-][A-Za-z0-9_-]{20,}`,                      // Vault
		`eyJ[A-Za-z0-9_-]{16,}`,                              // JSON web tokens
		`(dop_v1|shpat|lin_api|dckr_pat)_[A-Za-z0-9_-]{16,}`, // Doppler, Shopify, Linear, Docker
	}, "|") + `)$`)
)

// Names that are not environment variables of an agent because they make a
// program load or run something else, or belong to the runner.
var (
	dangerousNames = nameSet(`
		PATH HOME SHELL USER LOGNAME TMPDIR TMP TEMP PWD OLDPWD IFS ENV BASH_ENV SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH _
		GLIBC_TUNABLES GCONV_PATH LOCPATH NLSPATH HOSTALIASES RES_OPTIONS MALLOC_CONF TERMINFO TERMCAP ZDOTDIR INPUTRC FPATH
		NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_REPL_EXTERNAL_MODULE
		PYTHONPATH PYTHONSTARTUP PYTHONHOME PYTHONINSPECT PYTHONBREAKPOINT PYTHONWARNINGS PYTHONUSERBASE PYTHONEXECUTABLE
		PERL5OPT PERL5LIB PERL5DB PERLLIB RUBYOPT RUBYLIB GEM_HOME GEM_PATH BUNDLE_GEMFILE LUA_PATH LUA_CPATH LUA_INIT PHPRC PHP_INI_SCAN_DIR
		JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS JAVA_OPTS CLASSPATH MAVEN_OPTS GRADLE_OPTS
		GOFLAGS GOENV GOROOT GOTOOLCHAIN RUSTC RUSTC_WRAPPER RUSTFLAGS CC CXX LD MAKEFLAGS
		DOTNET_STARTUP_HOOKS DOTNET_ADDITIONAL_DEPS CORECLR_PROFILER CORECLR_PROFILER_PATH COR_PROFILER COR_PROFILER_PATH
		GIT_SSH GIT_SSH_COMMAND GIT_EXEC_PATH GIT_EXTERNAL_DIFF GIT_PROXY_COMMAND GIT_EDITOR GIT_SEQUENCE_EDITOR GIT_PAGER GIT_ASKPASS
		GIT_TEMPLATE_DIR GIT_DIR GIT_WORK_TREE SSH_ASKPASS SUDO_ASKPASS
		EDITOR VISUAL PAGER MANPAGER BROWSER LESSOPEN LESSCLOSE OPENSSL_CONF OPENSSL_MODULES OPENSSL_ENGINES CURL_HOME WGETRC`)
	dangerousPrefixes = []string{"LD_", "DYLD_", "GIT_CONFIG"}
)

// pathWords stand where an environment stands in other paths, as in
// scopes/chain/: a policy on +/<environment>/* means both.
var pathWords = nameSet("org project chain agent secret execution run")

// reservedPrefix begins the variables that the runner itself gives an agent.
const reservedPrefix = "AGENTCHAINS_"

func nameSet(names string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(names) {
		set[name] = true
	}
	return set
}

// The checks below return an error that reads on from what was checked:
// "agents[0].name" + " must be …". They never repeat the name, because a
// secret may have been given in its place.

var errLooksLikeKey = errors.New("looks like a key, not like a name: store the key with secrets/ and give its name here")

func checkName(pattern *regexp.Regexp, name, rule string) error {
	if keyPattern.MatchString(name) {
		return errLooksLikeKey
	}
	if !pattern.MatchString(name) {
		return errors.New(rule)
	}
	return nil
}

// CheckEnvironment reports what is wrong with the name of an environment.
func CheckEnvironment(name string) error {
	if name == All {
		return errors.New("must not be all, which means every environment")
	}
	if pathWords[name] {
		return errors.New("must not be a word of the API's own paths, which a policy for the environment would grant too")
	}
	return checkName(environmentPattern, name, "must be 1 to 32 lower-case letters, digits or -, and begin with a letter")
}

// CheckSegment reports what is wrong with the name of a project, an agent or a
// run, or with one segment of a chain's name.
func CheckSegment(name string) error {
	return checkName(segmentPattern, name, "must be 1 to 64 letters, digits, _ or -, and begin with a letter or a digit")
}

// CheckChain reports what is wrong with the name of a chain.
func CheckChain(name string) error {
	segments := strings.Split(name, "/")
	if len(segments) > maxChainSegments {
		return errors.New("must have 1 to 4 segments")
	}
	for _, segment := range segments {
		if err := CheckSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

// CheckVariable reports what is wrong with the name of a secret, which is the
// name of an environment variable.
func CheckVariable(name string) error {
	if err := checkName(variablePattern, name, "must be an environment variable: 1 to 128 of A-Z, 0-9 and _, not beginning with a digit"); err != nil {
		return err
	}
	if strings.HasPrefix(name, reservedPrefix) {
		return errors.New("must not begin with " + reservedPrefix + ", which is reserved")
	}
	if dangerousNames[name] {
		return errDangerous
	}
	for _, prefix := range dangerousPrefixes {
		if strings.HasPrefix(name, prefix) {
			return errDangerous
		}
	}
	return nil
}

var errDangerous = errors.New("must not be a variable that makes programs load or run something else, such as PATH or LD_PRELOAD: choose another name")

// CheckGroup reports what is wrong with the name of a group.
func CheckGroup(name string) error {
	return checkName(groupPattern, name, "must be 1 to 64 lower-case letters, digits or -, and begin with a letter")
}

// CheckChainPatterns reports what is wrong with a list of chains_allowed: the
// exact names of chains, or prefix/* for all chains below a prefix.
func CheckChainPatterns(patterns []string) error {
	const most = 1000
	if len(patterns) > most {
		return errors.New("must have at most 1000 entries")
	}
	for _, pattern := range patterns {
		if pattern == "*" {
			return errors.New("must not hold a bare *: name the chains, or use prefix/*")
		}
		if err := CheckChain(strings.TrimSuffix(pattern, "/*")); err != nil {
			return errors.New("must hold names of chains or prefix/*: an entry " + err.Error())
		}
	}
	return nil
}

// chainMatches reports whether one of patterns allows chain. A prefix matches
// whole segments only, and not the chain that is named like the prefix.
func chainMatches(patterns []string, chain string) bool {
	for _, pattern := range patterns {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
			if strings.HasPrefix(chain, prefix) {
				return true
			}
		} else if pattern == chain {
			return true
		}
	}
	return false
}
