// Command sbom writes which modules a Go binary is made of, as CycloneDX 1.6. It
// reads what the linker has put into the binary, not a go.mod, and adds no time and
// no random number: the same binary gives the same bytes.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"log"
	"net/url"
	"os"
	"path"
	"runtime/debug"
	"strings"
)

// bom, component and property are the parts of CycloneDX that are needed here.
type bom struct {
	Format     string      `json:"bomFormat"`
	Spec       string      `json:"specVersion"`
	Version    int         `json:"version"`
	Metadata   metadata    `json:"metadata"`
	Components []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: sbom <binary>")
	}
	info, err := buildinfo.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(describe(info)); err != nil {
		log.Fatal(err)
	}
}

func describe(info *debug.BuildInfo) bom {
	main := module("application", info.Main.Path, info.Main.Version)
	main.Name = path.Base(info.Path)
	main.PURL += "#" + strings.TrimPrefix(info.Path, info.Main.Path+"/")
	for _, s := range info.Settings {
		main.Properties = append(main.Properties, property{"go:build:" + s.Key, s.Value})
	}
	// The standard library is linked too.
	components := []component{module("library", "std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		c := module("library", dep.Path, dep.Version)
		c.Properties = []property{{"go:sum", dep.Sum}}
		components = append(components, c)
	}
	return bom{"CycloneDX", "1.6", 1, metadata{main}, components}
}

func module(kind, name, version string) component {
	purl := "pkg:golang/" + name + "@" + url.QueryEscape(version)
	return component{Type: kind, Ref: purl, Name: name, Version: version, PURL: purl}
}
