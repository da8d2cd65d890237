package deliver

import (
	"context"
	"time"
)

// watchEvery is how often the health of failing webhooks is checked.
const watchEvery = 10 * time.Second

// healthLoop warns of webhooks that always fail, pauses those still failing,
// and reports recovered ones, until ctx ends. Each change and its notice are
// one transaction, of the first node that makes it.
func (e *Engine) healthLoop(ctx context.Context) {
	every(ctx, watchEvery, func() { e.applyHealth(ctx) })
}

func (e *Engine) applyHealth(ctx context.Context) {
	list, err := e.Store.Failing(ctx, e.Endurance)
	if err != nil {
		if ctx.Err() == nil {
			e.Log.Warn("cannot list failing webhooks", "error", err)
		}
		return
	}
	for _, h := range list {
		stage, notice, ok := h.Due(e.Endurance)
		if !ok || ctx.Err() != nil {
			continue
		}
		if err := e.Store.Advance(ctx, h, stage, notice); err != nil {
			e.Log.Warn("cannot record the health of a failing webhook", "webhook_id", h.WebhookID, "error", err)
			continue
		}
		e.Log.Warn("the health of a webhook changed", "webhook_id", h.WebhookID, "organization_id", h.OrganizationID,
			"notice", notice.Type, "failures", h.Failures, "since", h.Since)
		e.Wake()
	}
}
