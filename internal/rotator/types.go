package rotator

// Webhook is the type that can run a rotation chain.
const Webhook = "webhook"

// Types are the types of rotators, by name.
var Types = byName(
	passwordType,
	apiKeyType,
	webhookType,
	postgresqlType,
	mysqlType,
	awsIAMType,
	oauth2Type,
	vaultType,
)

func byName(types ...*Type) map[string]*Type {
	m := make(map[string]*Type, len(types))
	for _, t := range types {
		m[t.Name] = t
	}
	return m
}
