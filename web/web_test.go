package web

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPageSaysWhatTheNodeIsAndEscapesIt(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	Page(About{NodeID: "n1<script>", Cluster: "prod", Version: "1.2"}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	body := w.Body.String()
	for _, want := range []string{"n1&lt;script&gt;", "prod", "version 1.2", `href="/livez"`, `href="/readyz?verbose"`, `href="/metrics"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
	if got := w.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type: got %q", got)
	}
}
