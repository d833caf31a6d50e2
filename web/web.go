// Package web holds the pages that a node shows to a browser.
package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// About is what a node says of itself.
type About struct {
	NodeID, Cluster, Version string
}

// Page shows what this node is and where more is to be seen.
func Page(about About) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var page bytes.Buffer
		if err := pageTemplate.Execute(&page, about); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		header.Set("X-Content-Type-Options", "nosniff")
		// The browser may have gone; there is nobody else to tell.
		_, _ = w.Write(page.Bytes())
	})
}
