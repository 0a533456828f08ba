package lambda

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Code.Location, and Content.Location of a layer, is a URL of this server that downloads a package without
// credentials for ten minutes, as the service's S3 URLs do: its expiry and an
// HMAC stand in the query.

// downloadPath is where packages are downloaded, by their SHA-256. No path of
// the Lambda API begins with it: those begin with a date.
const downloadPath = "/packages/"

// downloadTime is how long a URL holds.
const downloadTime = 10 * time.Minute

// packageLocation makes the URL of a package as r's sender reaches this server.
func (h *Handler) packageLocation(r *http.Request, sha string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	expires := strconv.FormatInt(h.Clock.Now().Add(downloadTime).Unix(), 10)
	return scheme + "://" + r.Host + downloadPath + sha +
		"?expires=" + expires + "&signature=" + hex.EncodeToString(h.signDownload(sha, expires))
}

func (h *Handler) signDownload(sha, expires string) []byte {
	m := hmac.New(sha256.New, h.DownloadKey)
	m.Write([]byte(sha + "\n" + expires))
	return m.Sum(nil)
}

// download serves such a URL, with ranges.
func (h *Handler) download(w http.ResponseWriter, c *call) {
	r := c.http
	refuse := func(status int, text string) {
		w.Header().Set("X-Amzn-Requestid", c.requestID)
		http.Error(w, text, status)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuse(http.StatusMethodNotAllowed, "A package can only be read.")
		return
	}
	sha := strings.TrimPrefix(r.URL.Path, downloadPath)
	expires, _ := queryValue(r.URL.RawQuery, "expires")
	given, _ := queryValue(r.URL.RawQuery, "signature")
	signature, err := hex.DecodeString(given)
	if err != nil || !hmac.Equal(signature, h.signDownload(sha, expires)) {
		refuse(http.StatusForbidden, "This URL is not one that GetFunction or GetLayerVersion has given.")
		return
	}
	until, err := strconv.ParseInt(expires, 10, 64)
	now := h.Clock.Now()
	if err != nil || now.Unix() > until {
		refuse(http.StatusForbidden, "This URL has expired; GetFunction or GetLayerVersion gives a new one.")
		return
	}
	file, _, err := h.Registry.OpenPackage(c.ctx, sha)
	if err != nil {
		logError(h.Log, c.requestID, "download", err)
		refuse(asError(err).Kind.Status(), asError(err).Message)
		return
	}
	defer file.Close() // only read
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+sha+`.zip"`)
	w.Header().Set("X-Amzn-Requestid", c.requestID)
	http.ServeContent(w, r, "", time.Time{}, file)
}
