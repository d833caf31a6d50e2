package server

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"sluice/api/reason"
	"sluice/web"
)

// procedures lists the paths of the contract's methods; true of those whose request is a stream.
func procedures() map[string]bool {
	all := map[string]bool{}
	protoregistry.GlobalFiles.RangeFilesByPackage("sluice.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				all[fmt.Sprintf("/%s/%s", service.FullName(), method.Name())] = method.IsStreamingClient()
			}
		}
		return true
	})
	return all
}

// front stands before the services: it refuses what no service needs to see.
type front struct {
	*lifetime
	next       http.Handler
	leader     func() string
	procedures map[string]bool
	errors     *connect.ErrorWriter
	limits     Limits
	secure     bool
	logger     *slog.Logger
	metrics    *callMetrics
}

// leaderHeader names the leader's address in the answer to a call, if the node knows it: a call to the leader saves a hop.
const leaderHeader = "Sluice-Leader"

// ServeHTTP judges a request by its path and headers and hands it on.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	streams, known := f.procedures[r.URL.Path]
	if !known {
		f.serveOther(w, r)
		return
	}
	if leader := f.leader(); leader != "" {
		w.Header().Set(leaderHeader, leader)
	}
	if !f.enter(f.limits.Calls) {
		f.refuse(w, r, f.whyNot())
		return
	}
	defer f.leave()
	actor, err := identify(r, f.secure)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	if !streams {
		guardBody(w, r, int64(f.limits.CallBytes), f.limits.BodyTime)
	}
	f.next.ServeHTTP(w, r.WithContext(withActor(r.Context(), actor)))
}

// serveOther answers what is no method of the contract: pages, or a method that does not exist.
func (f *front) serveOther(w http.ResponseWriter, r *http.Request) {
	service, method, rpc := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !rpc || r.Method != http.MethodPost || !f.errors.IsSupported(r) {
		f.next.ServeHTTP(w, r)
		return
	}
	f.refuse(w, r, reason.NotImplemented.Errorf("there is no method %q of a service %q here; the services are those of sluice.v1", shorten(method), shorten(service)))
}

func (f *front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	wire := toWire(err)
	why, text := splitText(wire.Message())
	f.metrics.refused.WithLabelValues(why).Inc()
	f.logger.DebugContext(r.Context(), "call refused", "path", r.URL.Path, "reason", why, "error", text, "from", r.RemoteAddr)
	// The caller may be gone; there is nobody else to tell.
	_ = f.errors.Write(w, r, wire)
}

// pages are the plain HTTP pages beside the services.
type pages struct {
	*lifetime
	node     Node
	about    web.About
	registry *prometheus.Registry
	profiles bool
}

// register hangs the pages into a mux.
func (p *pages) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", p.livez)
	mux.HandleFunc("GET /readyz", p.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	mux.Handle("GET /{$}", web.Page(p.about))
	if p.profiles {
		mux.HandleFunc("/debug/pprof/", loopbackOnly(pprof.Index))
		mux.HandleFunc("/debug/pprof/cmdline", loopbackOnly(pprof.Cmdline))
		mux.HandleFunc("/debug/pprof/profile", loopbackOnly(pprof.Profile))
		mux.HandleFunc("/debug/pprof/symbol", loopbackOnly(pprof.Symbol))
		mux.HandleFunc("/debug/pprof/trace", loopbackOnly(pprof.Trace))
	}
}

// livez says that the process runs and answers, no more.
func (p *pages) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, "ok")
}

// readyz says whether calls sent here will be served: the node knows a leader and has caught up, and is not stopping.
// With ?verbose it says so check by check.
func (p *pages) readyz(w http.ResponseWriter, r *http.Request) {
	lines, ready := p.checks()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if r.URL.Query().Has("verbose") || !ready {
		fmt.Fprintln(w, strings.Join(lines, "\n"))
	}
	fmt.Fprintln(w, map[bool]string{true: "ready", false: "not ready"}[ready])
}

func (p *pages) checks() (lines []string, ready bool) {
	ready = !p.stopping()
	lines = append(lines, checkLine("serving", ready, "takes calls"))
	for _, check := range p.node.Ready() {
		lines = append(lines, checkLine(check.Name, check.OK, check.Text))
		ready = ready && check.OK
	}
	return lines, ready
}

func checkLine(name string, ok bool, text string) string {
	mark := map[bool]string{true: "[ok]", false: "[no]"}[ok]
	return strings.TrimRight(mark+" "+name+": "+text, ": ")
}

// loopbackOnly shows a page to this machine alone: profiles tell too much to strangers.
func loopbackOnly(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			http.Error(w, "profiles are shown to this machine alone", http.StatusForbidden)
			return
		}
		page(w, r)
	}
}
