package api

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"triggerd/internal/fair"
	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Bounds of the memory for event types.
const (
	typesInMemory    = 1000      // organizations
	maxSchemaText    = 64 << 20  // bytes of schemas, the latest organization excepted
	maxSchemaWeight  = 128 << 20 // approximate bytes of compiled schemas
	maxSchemas       = 10_000    // compiled schemas
	typesUnavailable = time.Second
)

// typeCache caches the event types whose events are validated.
type typeCache struct {
	store  *store.Store
	judges judges
	asking singleflight.Group // one read serves all requests that wait for an organization's types

	mu       sync.Mutex
	epoch    int64 // the epoch of the store when orgs was read
	orgs     *lru.Cache[int64, *judgedTypes]
	text     int // bytes of orgs
	compiled *lru.Cache[*judgedType, *eventSchema]
	weight   int // bytes of compiled
}

// judgedTypes are the types of an organization at a version.
type judgedTypes struct {
	version int64
	types   map[string]*judgedType
	text    int // bytes of schemas
}

// judgedType is a type whose events are validated.
type judgedType struct {
	mode   trigger.ValidationMode
	schema []byte
	making sync.Mutex // for compiling the schema
}

func newTypeCache(s *store.Store, turns *fair.Turns) *typeCache {
	c := &typeCache{store: s, judges: newJudges(turns)}
	var err error
	if c.orgs, err = lru.NewWithEvict(typesInMemory, func(_ int64, t *judgedTypes) { c.text -= t.text }); err != nil {
		panic(err) // only for a size below 1
	}
	if c.compiled, err = lru.NewWithEvict(maxSchemas, func(_ *judgedType, s *eventSchema) { c.weight -= s.weight }); err != nil {
		panic(err)
	}
	return c
}

// find returns the types of an organization, at its version or a later one.
func (c *typeCache) find(ctx context.Context, org *trigger.Organization) (*judgedTypes, error) {
	if types := c.known(org.ID, org.TypesVersion); types != nil {
		return types, nil
	}
	name := strconv.FormatInt(org.ID, 10) + "/" + strconv.FormatInt(org.TypesVersion, 10)
	found, err, _ := c.asking.Do(name, func() (any, error) {
		if types := c.known(org.ID, org.TypesVersion); types != nil {
			return types, nil
		}
		epoch := c.store.Epoch()
		list, version, err := c.store.JudgedTypes(context.WithoutCancel(ctx), org.ID)
		if err != nil {
			return nil, err
		}
		types := &judgedTypes{version: version, types: make(map[string]*judgedType, len(list))}
		for i := range list {
			types.types[list[i].Name] = &judgedType{mode: list[i].Mode, schema: list[i].Schema}
			types.text += len(list[i].Name) + len(list[i].Schema)
		}
		c.keep(org.ID, types, epoch)
		return types, nil
	})
	if err != nil {
		if trigger.KindOf(err) != trigger.Unavailable {
			err = trigger.NewUnavailable(err, typesUnavailable)
		}
		return nil, err
	}
	types, _ := found.(*judgedTypes)
	return types, nil
}

func (c *typeCache) known(orgID, version int64) *judgedTypes {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow()
	if types, ok := c.orgs.Get(orgID); ok && types.version >= version {
		return types
	}
	return nil
}

// follow drops what another server returned. The caller must hold mu.
func (c *typeCache) follow() {
	if epoch := c.store.Epoch(); epoch != c.epoch {
		c.epoch = epoch
		c.orgs.Purge()
	}
}

// keep caches types that were read after the store had the epoch.
func (c *typeCache) keep(orgID int64, types *judgedTypes, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.follow(); epoch != c.epoch {
		return
	}
	if now, ok := c.orgs.Peek(orgID); ok && now.version > types.version {
		return
	}
	c.orgs.Remove(orgID)
	c.orgs.Add(orgID, types)
	for c.text += types.text; c.text > maxSchemaText && c.orgs.Len() > 1; {
		c.orgs.RemoveOldest()
	}
}

// compile returns the compiled schema of a type.
func (c *typeCache) compile(t *judgedType) (*eventSchema, error) {
	if schema := c.ready(t); schema != nil {
		return schema, nil
	}
	t.making.Lock()
	defer t.making.Unlock()
	if schema := c.ready(t); schema != nil {
		return schema, nil
	}
	schema, err := compileSchema(t.schema)
	if err != nil {
		return nil, errors.New("a stored schema does not compile")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compiled.Add(t, schema)
	for c.weight += schema.weight; c.weight > maxSchemaWeight && c.compiled.Len() > 1; {
		c.compiled.RemoveOldest()
	}
	return schema, nil
}

func (c *typeCache) ready(t *judgedType) *eventSchema {
	c.mu.Lock()
	defer c.mu.Unlock()
	schema, _ := c.compiled.Get(t)
	return schema
}
