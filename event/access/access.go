// Package access finds out how a broker is reached: its addresses, who one is
// there, and what it has to prove, from where a source was registered and from
// the SourceAccessConfigurations of a mapping.
package access

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/hearth-faas/hearth/event"
	"github.com/hearth-faas/hearth/event/poll"
)

// Mechanism is how a password is shown to a Kafka broker.
type Mechanism string

// The mechanisms, as SASL names them.
const (
	Plain    Mechanism = "PLAIN"
	SCRAM256 Mechanism = "SCRAM-SHA-256"
	SCRAM512 Mechanism = "SCRAM-SHA-512"
)

// Access is how a broker is reached.
type Access struct {
	Addrs          []string // host:port
	User, Password string   // "" is none
	Mechanism      Mechanism
	VirtualHost    string      // of RabbitMQ; "" is not said
	TLS            *tls.Config // nil is unencrypted
}

// Want is what a kind of broker has by default.
type Want struct {
	Port string
	// Secure are the schemes of URLs that mean TLS.
	Secure []string
}

// secret is the JSON that a secret may be.
type secret struct {
	Username    string `json:"username"`
	Password    string `json:"password"`
	Certificate string `json:"certificate"` // PEM: the client's, or the authority's
	PrivateKey  string `json:"privateKey"`
	CA          string `json:"ca"` // PEM
	Mechanism   string `json:"mechanism"`
}

// Of is how m's broker at the place is reached. What a mapping says goes before
// what was registered. Secrets are in no error.
func Of(m *event.Mapping, at poll.Place, want Want) (*Access, error) {
	a := &Access{Mechanism: Plain}
	addrs := m.Brokers
	if u := at.URL; u != nil {
		if len(addrs) == 0 && u.Host != "" {
			addrs = strings.Split(u.Host, ",")
		}
		q := u.Query()
		if slices.Contains(want.Secure, u.Scheme) || q.Get("tls") == "true" {
			a.secure()
		}
		if name := q.Get("mechanism"); name != "" {
			if err := a.mechanism(name); err != nil {
				return nil, err
			}
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("where the source %s is was not said: register it with its URL (hearth source add)", m.Source)
	}
	for _, addr := range addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			addr = net.JoinHostPort(strings.Trim(addr, "[]"), want.Port)
		}
		a.Addrs = append(a.Addrs, addr)
	}
	a.User, a.Password = poll.Login(at.URL, at.Secret)
	if s, ok := parse(at.Secret); ok {
		if err := a.take(s); err != nil {
			return nil, fmt.Errorf("the secret of the source: %w", err)
		}
	}
	for _, c := range m.Settings.Access {
		if err := a.configure(c, at); err != nil {
			return nil, err
		}
	}
	if a.TLS != nil && a.TLS.ServerName == "" && len(a.Addrs) == 1 {
		a.TLS.ServerName, _, _ = net.SplitHostPort(a.Addrs[0])
	}
	return a, nil
}

// configure takes one SourceAccessConfiguration.
func (a *Access) configure(c event.Access, at poll.Place) error {
	switch c.Type {
	case "VIRTUAL_HOST":
		a.VirtualHost = c.URI
		return nil
	case "VPC_SUBNET", "VPC_SECURITY_GROUP":
		return nil // a broker here is in no such network
	}
	if at.Lookup == nil {
		return fmt.Errorf("there is no secret %s here", c.URI)
	}
	text, err := at.Lookup(c.URI)
	if err != nil {
		return err
	}
	s, isJSON := parse(text)
	switch c.Type {
	case "BASIC_AUTH", "SASL_SCRAM_256_AUTH", "SASL_SCRAM_512_AUTH":
		a.User, a.Password = poll.Login(nil, text)
		switch c.Type {
		case "SASL_SCRAM_256_AUTH":
			a.Mechanism = SCRAM256
		case "SASL_SCRAM_512_AUTH":
			a.Mechanism = SCRAM512
		}
	case "CLIENT_CERTIFICATE_TLS_AUTH":
		if !isJSON || s.Certificate == "" || s.PrivateKey == "" {
			return fmt.Errorf(`the secret %s needs {"certificate": PEM, "privateKey": PEM}`, c.URI)
		}
		if err := a.certificate(s); err != nil {
			return fmt.Errorf("the secret %s: %w", c.URI, err)
		}
	case "SERVER_ROOT_CA_CERTIFICATE":
		pem := string(text)
		if isJSON {
			pem = s.Certificate
		}
		if err := a.trust(pem); err != nil {
			return fmt.Errorf("the secret %s: %w", c.URI, err)
		}
	default:
		return fmt.Errorf("access of type %s is not supported here", c.Type)
	}
	return nil
}

// take takes what a registered secret has beside name and password.
func (a *Access) take(s secret) error {
	if s.Mechanism != "" {
		if err := a.mechanism(s.Mechanism); err != nil {
			return err
		}
	}
	if s.CA != "" {
		if err := a.trust(s.CA); err != nil {
			return err
		}
	}
	if s.Certificate != "" {
		return a.certificate(s)
	}
	return nil
}

func (a *Access) mechanism(name string) error {
	m := Mechanism(strings.ToUpper(name))
	if !slices.Contains([]Mechanism{Plain, SCRAM256, SCRAM512}, m) {
		return fmt.Errorf("the mechanism %q is none of %s, %s, %s", name, Plain, SCRAM256, SCRAM512)
	}
	a.Mechanism = m
	return nil
}

func (a *Access) secure() {
	if a.TLS == nil {
		a.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
}

// trust has the broker's certificate checked against the authorities in pem.
func (a *Access) trust(pem string) error {
	a.secure()
	a.TLS.RootCAs = x509.NewCertPool()
	if !a.TLS.RootCAs.AppendCertsFromPEM([]byte(pem)) {
		return fmt.Errorf("there is no PEM certificate in it")
	}
	return nil
}

func (a *Access) certificate(s secret) error {
	cert, err := tls.X509KeyPair([]byte(s.Certificate), []byte(s.PrivateKey))
	if err != nil {
		return err
	}
	a.secure()
	a.TLS.Certificates = []tls.Certificate{cert}
	return nil
}

func parse(text []byte) (s secret, ok bool) {
	ok = strings.HasPrefix(strings.TrimSpace(string(text)), "{") && json.Unmarshal(text, &s) == nil
	return s, ok
}

// Name is what of a broker the mapping reads: the first of its topics or
// queues, or else the parameter of the place's URL.
func Name(m *event.Mapping, at poll.Place, parameter string) string {
	for _, names := range [][]string{m.Topics, m.Queues} {
		if len(names) > 0 {
			return names[0]
		}
	}
	return Parameter(at.URL, parameter)
}

// Parameter is a parameter of the URL; "" if there is none, or no URL.
func Parameter(u *url.URL, name string) string {
	if u == nil {
		return ""
	}
	return u.Query().Get(name)
}
