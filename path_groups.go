package agentchains

import "github.com/hashicorp/vault/sdk/framework"

func (b *backend) pathGroups() *framework.Path {
	p := b.pathEntries("group", framework.TypeMap)
	p.Pattern = "groups/" + framework.MatchAllRegex("path")
	p.Fields["values"] = &framework.FieldSchema{
		Type:         framework.TypeMap,
		Description:  "The variables and their values, as an object of strings, at most 128 KiB. A patch merges them into those of the newest version.",
		DisplayAttrs: &framework.DisplayAttributes{Name: "Values", Sensitive: true},
	}
	p.HelpSynopsis = "Groups: several variables that travel and rotate together."
	p.HelpDescription = groupsHelp
	return p
}

func (b *backend) pathGroupsList() *framework.Path {
	return pathList("groups/", "groups", "List groups, and the segments below a path.", b.entryList)
}

const groupsHelp = `
A group is stored at <environment>/<scope>/<group>, as in prod/org/aws-deploy.
An agent that lists the group gets all its variables, always of one version.
Write it as JSON, from a file or from standard input, never in an argument:

    vault write agentchains/groups/prod/org/aws-deploy @aws-deploy.json

where the file holds {"values": {"AWS_ACCESS_KEY_ID": "…", "AWS_REGION": "…"}}.
`
