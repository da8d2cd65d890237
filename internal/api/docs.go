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
func (a *API) getOpenAPI(w http.ResponseWriter, _ *request) error {
	return answerFile(w, "openapi.yaml")
}

// getDocs gives the pages for people, and what they are made of.
func (a *API) getDocs(w http.ResponseWriter, r *request) error {
	w.Header().Set("Content-Security-Policy", docsPolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	switch file := r.PathValue("file"); {
	case file != "":
		return answerFile(w, path.Join("docs", path.Base(file)))
	case r.URL.Path == "/docs":
		return answerFile(w, "docs/index.html")
	}
	return answerFile(w, "docs/problems.html")
}

func answerFile(w http.ResponseWriter, name string) error {
	body, err := files.ReadFile(name)
	if err != nil {
		return notFound()
	}
	w.Header().Set("Content-Type", contentTypeOf(name))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
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
