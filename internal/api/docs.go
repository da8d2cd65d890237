package api

import (
	"embed"
	"net/http"
	"path"
)

//go:embed openapi.yaml docs
var files embed.FS

// docsPolicy lets the pages load what stands beside them, and nothing else.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// getOpenAPI gives the description of /v1.
func (a *API) getOpenAPI(w http.ResponseWriter, r *request) error {
	return a.answerFile(w, r, "openapi.yaml")
}

// getDocs gives the pages for people, and what they are made of.
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

// answerFile gives a file, or says that the client has it already.
func (a *API) answerFile(w http.ResponseWriter, r *request, name string) error {
	body, err := files.ReadFile(name)
	if err != nil {
		return notFound()
	}
	tag, known := a.tags.Load(name)
	if !known {
		tag = etagOf(body)
		a.tags.Store(name, tag)
	}
	w.Header().Set("ETag", tag.(string))
	if hasCurrent(r.Header, tag.(string)) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Type", contentTypeOf(name))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body) // a client that is gone needs no answer
	return nil
}

// contentTypeOf is by the name alone, whatever this machine knows of names.
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
