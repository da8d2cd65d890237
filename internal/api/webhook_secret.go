package api

import (
	"crypto/rand"
	"net/http"

	"triggerd/internal/trigger"
)

// The types of secrets.
const (
	symmetricType = "symmetric"
	ed25519Type   = "ed25519"
)

func secretType(s trigger.Secret) string {
	if s.Public() != "" {
		return ed25519Type
	}
	return symmetricType
}

// secretWish is the secret that a request wants for a webhook.
type secretWish struct {
	given  trigger.Secret // zero for a new one
	kind   string         // type of a new one; "" if not given
	random [32]byte
}

// wishedSecret parses the members secret and signature.
func wishedSecret(secret, signature *opt[string]) (wish secretWish, err error) {
	switch wish.kind = signature.or(symmetricType); {
	case wish.kind != symmetricType && wish.kind != ed25519Type:
		return wish, invalid("#/signature", "signature must be symmetric or ed25519")
	case !signature.Given || signature.Null:
		wish.kind = ""
	}
	_, _ = rand.Read(wish.random[:]) // never fails
	if !secret.Given || secret.Null {
		return wish, nil
	}
	wish.given, err = trigger.ParseSecret(secret.Value)
	switch {
	case err != nil:
		return wish, trigger.AtMember(err, "#/secret")
	case wish.given.IsZero():
		return wish, invalid("#/secret", "secret must not be empty")
	case wish.kind != "" && wish.kind != secretType(wish.given):
		return wish, invalid("#/signature", "signature must be %s, the type of the secret", secretType(wish.given))
	}
	return wish, nil
}

// make returns the secret, the same on each call. fallback is the type of a new
// one if none is given.
func (w *secretWish) make(fallback string) trigger.Secret {
	kind := w.kind
	if kind == "" {
		kind = fallback
	}
	switch {
	case !w.given.IsZero():
		return w.given
	case kind == ed25519Type:
		return trigger.NewKeyPair(w.random)
	}
	return trigger.NewSecret(w.random)
}

// rotateSecret sets a new secret of a webhook, which is shown only this once.
// The previous secret goes on signing for the overlap.
func (a *API) rotateSecret(w http.ResponseWriter, r *request) error {
	id, err := r.only("webhook_id")
	if err != nil {
		return err
	}
	var in struct {
		Secret    opt[string]  `json:"secret"`
		Signature opt[string]  `json:"signature"`
		Overlap   opt[float64] `json:"overlap_seconds"`
	}
	if _, err := a.readBody(w, r, &in); err != nil {
		return err
	}
	wish, err := wishedSecret(&in.Secret, &in.Signature)
	if err != nil {
		return err
	}
	overlap, err := seconds("overlap_seconds", in.Overlap.or(trigger.DefaultOverlap.Seconds()), 0, trigger.MaxOverlap)
	if err != nil {
		return err
	}
	var next trigger.Secret
	if _, err := a.Store.SetWebhook(r.Context(), r.orgID(), id, func(hook *trigger.Webhook) error {
		present := symmetricType
		if len(hook.Secrets) > 0 {
			present = secretType(hook.Secrets[0].Secret)
		}
		next = wish.make(present)
		if hook.Secrets.PushesOut(next, a.Store.Now(), overlap) {
			return trigger.Errorf(trigger.Conflict, "the webhook has the largest number of secrets that can sign at a time: wait until the oldest ends, or end all earlier ones with overlap_seconds 0")
		}
		hook.Secrets = hook.Secrets.Rotate(next, a.Store.Now(), overlap)
		return nil
	}); err != nil {
		return atSchedule(err)
	}
	a.follow(r, id)
	return a.answerWebhook(w, r, http.StatusOK, id, next.Reveal())
}
