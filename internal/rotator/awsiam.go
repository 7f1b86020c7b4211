package rotator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/sensitive"
)

// awsIAMType replaces the access key of an IAM user, who may have two.
var awsIAMType = &Type{
	Name: "aws-iam",
	Fields: []Field{
		{Name: "username", Kind: Text, Required: true, Description: "The IAM user whose access keys these are. Nobody else may make keys for it."},
		{Name: "access_key_id", Kind: Text, Sensitive: true, Description: "The access key of whoever manages the user's keys. Without one, the current key of the user does."},
		{Name: "secret_access_key", Kind: Text, Sensitive: true, Description: "The secret of access_key_id."},
		{Name: "region", Kind: Text, Default: "us-east-1", Description: "The region whose STS tests a new key; it also says which partition IAM is in."},
		{Name: "iam_endpoint", Kind: Text, Address: true, Description: "The URL of IAM, when it is not the region's."},
		{Name: "sts_endpoint", Kind: Text, Address: true, Description: "The URL of STS, when it is not the region's."},
		{Name: "propagation", Kind: Duration, Default: 10 * time.Second, Description: "How long it may take until a new key is accepted."},
		caField,
		templateField,
	},
	FarSide: true,
	New:     newAWSIAM,
}

const (
	awsKeyID     = "access_key_id"
	awsKeySecret = "secret_access_key"
)

// What the memo of a version holds: the id of its key, and of the key that was
// current when it was begun. Every other key of the user that is there between
// the two was made for it.
const (
	memoKeyID    = "access_key_id"
	memoReplaces = "replaces"
)

// awsIAM makes a second key, and deletes the first when nobody uses it any more.
type awsIAM struct {
	username    string
	admin       accessKey // zero: the current key manages itself
	propagation time.Duration
	templates   map[string]string
	idVariable  string // that is the id of a key and nothing else
	keyVariable string // that is the secret of a key and nothing else
	iam         *iam.Client
	sts         *sts.Client
}

func newAWSIAM(s Settings, h Host) (Rotator, error) {
	a := &awsIAM{
		username:    Get[string](s, "username"),
		admin:       accessKey{Get[sensitive.String](s, awsKeyID), Get[sensitive.String](s, awsKeySecret)},
		propagation: Get[time.Duration](s, "propagation"),
		templates:   Get[map[string]string](s, "template"),
	}
	if a.admin.id.Len() == 0 != (a.admin.secret.Len() == 0) {
		return nil, errors.New("access_key_id and secret_access_key belong together: give both or none")
	}
	if a.propagation < time.Second || a.propagation > time.Minute {
		return nil, errors.New("propagation must be from 1s to 1m")
	}
	if len(a.templates) == 0 {
		a.templates = map[string]string{"AWS_ACCESS_KEY_ID": "{{access_key_id}}", "AWS_SECRET_ACCESS_KEY": "{{secret_access_key}}"}
	}
	var err error
	if a.idVariable, err = alone(a.templates, awsKeyID); err != nil {
		return nil, err
	}
	if a.keyVariable, err = alone(a.templates, awsKeySecret); err != nil {
		return nil, err
	}
	// What does not fit is found here, and not when there is a new key.
	if _, err = a.render(&Job{Path: "what this rotates"}, accessKey{}); err != nil {
		return nil, err
	}
	a.iam, a.sts, err = connectAWS(s, h)
	return a, err
}

func (a *awsIAM) Create(ctx context.Context, job *Job) error {
	if job.Variable != "" {
		return fmt.Errorf("%s is a secret, and an access key has two variables: make it a group", job.Path)
	}
	if _, made := job.New.Memo[memoKeyID]; made {
		return nil
	}
	manager, err := a.manager(job.Old)
	if err != nil {
		return err
	}
	keys, err := a.list(ctx, manager)
	if err != nil {
		return err
	}
	if _, begun := job.New.Memo[memoReplaces]; !begun {
		current := a.id(job.Old)
		if current != "" && current == a.admin.id.Reveal() {
			return errors.New("access_key_id is the key that is to be replaced: leave it out, and the key replaces itself")
		}
		for id := range keys {
			if id != current {
				return fmt.Errorf("%s has an access key that is not the current one (it ends in %s): delete it, or write it as the current value", a.username, id[max(0, len(id)-4):])
			}
		}
		job.New.Memo = map[string]sensitive.String{memoReplaces: sensitive.New(current)}
		if err := job.Save(ctx); err != nil {
			return err
		}
	}
	// The secret of one that is here now was in an answer that never came.
	if err := a.removeOthers(ctx, manager, keys, job.New.Memo[memoReplaces].Reveal()); err != nil {
		return err
	}
	out, err := a.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &a.username}, manager.sign)
	if err != nil {
		return awsError("create an access key", err)
	}
	if out.AccessKey == nil || aws.ToString(out.AccessKey.AccessKeyId) == "" || aws.ToString(out.AccessKey.SecretAccessKey) == "" {
		return errors.New("create an access key: there is no key in the answer")
	}
	key := accessKey{sensitive.New(*out.AccessKey.AccessKeyId), sensitive.New(*out.AccessKey.SecretAccessKey)}
	job.New.Memo[memoKeyID] = key.id
	job.New.Values, err = a.render(job, key)
	return err
}

// Set has nothing to do: IAM accepts a key from its creation on.
func (*awsIAM) Set(context.Context, *Job) error { return nil }

func (a *awsIAM) Test(ctx context.Context, job *Job) error {
	key := a.key(job.New)
	patience, cancel := context.WithTimeout(ctx, a.propagation)
	defer cancel()
	for {
		_, err := a.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, func(o *sts.Options) { o.Credentials = key })
		if err == nil {
			return nil
		}
		select {
		case <-patience.Done():
			return awsError("use the new access key", err)
		case <-time.After(a.propagation / 40):
		}
	}
}

func (a *awsIAM) Finish(ctx context.Context, job *Job) error {
	replaces, begun := job.New.Memo[memoReplaces]
	if !begun {
		return nil
	}
	stays := job.Old
	if job.Promoted {
		stays = job.New
	}
	manager, err := a.manager(stays)
	if err != nil {
		return err
	}
	keys, err := a.list(ctx, manager)
	if err != nil {
		return err
	}
	if !job.Promoted {
		return a.removeOthers(ctx, manager, keys, replaces.Reveal())
	}
	if _, there := keys[replaces.Reveal()]; !there {
		return nil
	}
	if !keys[a.id(job.New)] {
		return fmt.Errorf("%s has no other active access key than the old one, which stays: rotate again", a.username)
	}
	return a.remove(ctx, manager, replaces.Reveal())
}

// manager returns the key that may manage the user's keys, when v is the version
// whose key is accepted.
func (a *awsIAM) manager(v Version) (accessKey, error) {
	if a.admin.id.Len() > 0 {
		return a.admin, nil
	}
	key := a.key(v)
	if key.id.Len() == 0 || key.secret.Len() == 0 {
		return accessKey{}, errors.New("there is no key that could replace itself: give the rotator access_key_id and secret_access_key")
	}
	return key, nil
}

// list returns the ids of the user's keys, and which are active.
func (a *awsIAM) list(ctx context.Context, manager accessKey) (map[string]bool, error) {
	out, err := a.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: &a.username}, manager.sign)
	if err != nil {
		return nil, awsError("list the access keys of "+a.username, err)
	}
	keys := make(map[string]bool, len(out.AccessKeyMetadata))
	for _, k := range out.AccessKeyMetadata {
		keys[aws.ToString(k.AccessKeyId)] = k.Status == types.StatusTypeActive
	}
	return keys, nil
}

// removeOthers removes all keys but one.
func (a *awsIAM) removeOthers(ctx context.Context, manager accessKey, keys map[string]bool, stays string) error {
	for id := range keys {
		if id != stays {
			if err := a.remove(ctx, manager, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deactivates and deletes a key: it is dead even if the second fails.
func (a *awsIAM) remove(ctx context.Context, manager accessKey, id string) error {
	_, err := a.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: &a.username, AccessKeyId: &id, Status: types.StatusTypeInactive}, manager.sign)
	if err == nil {
		_, err = a.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: &a.username, AccessKeyId: &id}, manager.sign)
	}
	// IAM lists a key for a while after its end.
	var gone *types.NoSuchEntityException
	if err == nil || errors.As(err, &gone) {
		return nil
	}
	return awsError("delete an access key of "+a.username, err)
}

// id returns the id of a version's key. The memo has it when a rotation made the
// key, also when its values are destroyed.
func (a *awsIAM) id(v Version) string {
	if id, ok := v.Memo[memoKeyID]; ok {
		return id.Reveal()
	}
	return v.Values[a.idVariable].Reveal()
}

func (a *awsIAM) key(v Version) accessKey {
	return accessKey{v.Values[a.idVariable], v.Values[a.keyVariable]}
}

func (a *awsIAM) render(job *Job, key accessKey) (map[string]sensitive.String, error) {
	return render(job, a.templates, map[string]sensitive.String{awsKeyID: key.id, awsKeySecret: key.secret})
}

// alone returns the variable whose template is a field and nothing else.
func alone(templates map[string]string, field string) (string, error) {
	for _, variable := range slices.Sorted(maps.Keys(templates)) {
		text := templates[variable]
		if found := placeholder.FindStringSubmatch(text); found != nil && found[0] == text && found[1] == field {
			return variable, nil
		}
	}
	return "", fmt.Errorf("template must have a variable that is {{%s}} and nothing else", field)
}
