package api

import (
	"embed"
	"errors"
	"net/http"
	"path"

	"triggerd/internal/trigger"
)

//go:embed openapi.yaml docs
var files embed.FS

// docsPolicy lets the pages load only files of this server.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// getOpenAPI serves the description of /v1.
func (a *API) getOpenAPI(w http.ResponseWriter, r *request) error {
	return a.answerFile(w, r, "openapi.yaml")
}

// getDocs serves the documentation and its assets.
func (a *API) getDocs(w http.ResponseWriter, r *request) error {
	w.Header().Set("Content-Security-Policy", docsPolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	switch file := r.PathValue("file"); {
	case file != "":
		return a.answerFile(w, r, path.Join("docs", path.Base(file)))
	case r.URL.Path == "/docs":
		return a.answerFile(w, r, "docs/index.html")
	}
	return a.answerFile(w, r, "docs/problems.html")
}

// maxFiles bounds the answers with files at a time. One address gets at most
// three quarters of them.
const maxFiles = 64

// file is a file of an answer.
type file struct {
	body []byte // shared by all answers; must not be changed
	tag  string
}

// fileOf returns an embedded file. It is copied once, not for each answer. The
// error is NotFound if it does not exist.
func (a *API) fileOf(name string) (file, error) {
	if known, ok := a.files.Load(name); ok {
		return known.(file), nil
	}
	body, err := files.ReadFile(name)
	if err != nil {
		return file{}, notFound()
	}
	known, _ := a.files.LoadOrStore(name, file{body, etagOf(body)})
	return known.(file), nil
}

// answerFile answers with a file, or 304 if the client has it already. It
// returns Unavailable if too many such answers are in progress.
func (a *API) answerFile(w http.ResponseWriter, r *request, name string) error {
	f, err := a.fileOf(name)
	if err != nil {
		return err
	}
	if hasCurrent(r.Header, f.tag) {
		w.Header().Set("ETag", f.tag)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h := holder{noOrganization, a.limitedAddr(r)}
	if err := a.answering.takeFor(h, 1); err != nil {
		return trigger.NewUnavailable(errors.New("too many answers with files are under way, in all or to this address"), busyRetry)
	}
	defer a.answering.giveFor(h, 1)
	w.Header().Set("ETag", f.tag)
	w.Header().Set("Content-Type", contentTypeOf(name))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(f.body) // the client may be gone
	return nil
}

// contentTypeOf returns a type by the name only, not by this machine's tables.
func contentTypeOf(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".yaml":
		return "application/yaml"
	}
	return "text/plain; charset=utf-8"
}
