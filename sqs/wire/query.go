package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	hearth "github.com/hearth-faas/hearth"
	"github.com/hearth-faas/hearth/awsjson"
)

const namespace = "http://queue.amazonaws.com/doc/2012-11-05/"

// serveQuery serves a request of the query protocol: a form in, XML out. SQS's
// lists are flat, which no other service's here are.
func (a *api) serveQuery(w http.ResponseWriter, r *awsjson.Request) error {
	form := r.HTTP.URL.Query()
	body, err := url.ParseQuery(string(r.Body))
	if err != nil {
		err = hearth.Errorf(awsjson.Malformed, "The request's body is no form: %s", err)
	}
	for name, values := range body {
		form[name] = values
	}
	if len(form["QueueUrl"]) == 0 && strings.Count(r.HTTP.URL.Path, "/") >= 2 {
		form.Set("QueueUrl", r.HTTP.URL.Path)
	}
	action := form.Get("Action")
	var out any
	if err == nil {
		if run := operations[action]; run != nil {
			out, err = run(a, &call{r.HTTP.Context(), r, func(in any) error {
				return readForm(form, "", reflect.ValueOf(in).Elem())
			}})
		} else {
			err = hearth.Errorf(hearth.UnknownOperation, "The action %s is not valid for this endpoint.", action)
		}
	}
	status, answer := http.StatusOK, []byte(nil)
	if err == nil {
		answer, err = encodeXML(action, out, r.RequestID)
	}
	if err != nil {
		e, code := a.json.Describe(err)
		status = code.Status
		answer = errorXML(code, e.Message, r.RequestID)
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a caller that left needs none
	return err
}

// maxItems bounds a list of a form: more than any operation takes.
const maxItems = 100

// readForm fills in a structure from the parameters that begin with prefix.
func readForm(form url.Values, prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if err := readForm(form, prefix, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		name, halves, _ := strings.Cut(f.Tag.Get("query"), ",")
		if name == "" {
			name = f.Name
		}
		if err := readMember(form, prefix+name, halves, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// there tells whether the form has something under a name.
func there(form url.Values, name string) bool {
	if form.Has(name) {
		return true
	}
	for k := range form {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

func readMember(form url.Values, name, halves string, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Map:
		key, value, _ := strings.Cut(halves, ",")
		for i := 1; i <= maxItems; i++ {
			item := name + "." + strconv.Itoa(i)
			if !form.Has(item + "." + key) {
				return nil
			}
			e := reflect.New(v.Type().Elem()).Elem()
			if err := readMember(form, item+"."+value, "", e); err != nil {
				return err
			}
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			v.SetMapIndex(reflect.ValueOf(form.Get(item+"."+key)), e)
		}
		return hearth.Errorf(awsjson.Malformed, "The map %s has more than %d entries.", name, maxItems)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		for i := 1; i <= maxItems; i++ {
			item := name + "." + strconv.Itoa(i)
			if !there(form, item) {
				return nil
			}
			e := reflect.New(v.Type().Elem()).Elem()
			if err := readMember(form, item, "", e); err != nil {
				return err
			}
			v.Set(reflect.Append(v, e))
		}
		return hearth.Errorf(awsjson.Malformed, "The list %s has more than %d members.", name, maxItems)
	case v.Kind() == reflect.Struct:
		return readForm(form, name+".", v)
	case !form.Has(name):
		return nil
	}
	text := form.Get(name)
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case **string:
		*p = &text
	case **int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return hearth.Errorf(awsjson.Malformed, "The value %q of the parameter %s is not an integer.", text, name)
		}
		*p = &n
	case *[]byte:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return hearth.Errorf(awsjson.Malformed, "The value of the parameter %s is not base64.", name)
		}
		*p = b
	default:
		panic(fmt.Sprintf("sqs/wire: a parameter of type %s", v.Type()))
	}
	return nil
}

// encodeXML is the answer of an operation.
func encodeXML(action string, out any, requestID string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	fmt.Fprintf(&b, "<%sResponse xmlns=%q>", action, namespace)
	if out != nil {
		fmt.Fprintf(&b, "<%sResult>", action)
		if err := writeXML(&b, reflect.ValueOf(out).Elem()); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "</%sResult>", action)
	}
	fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", requestID, action)
	return b.Bytes(), nil
}

func writeXML(b *bytes.Buffer, v reflect.Value) error {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			if err := writeXML(b, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		if strings.Contains(f.Tag.Get("json"), "omitempty") && v.Field(i).IsZero() {
			continue
		}
		name, halves, _ := strings.Cut(f.Tag.Get("query"), ",")
		if name == "" {
			name = f.Name
		}
		if err := writeMember(b, name, halves, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func writeMember(b *bytes.Buffer, name, halves string, v reflect.Value) error {
	switch x := v.Interface().(type) {
	case string:
		return element(b, name, x)
	case *string:
		return element(b, name, *x)
	case int, int64, bool:
		return element(b, name, fmt.Sprint(x))
	case []byte:
		return element(b, name, base64.StdEncoding.EncodeToString(x))
	}
	switch v.Kind() {
	case reflect.Map:
		key, value, _ := strings.Cut(halves, ",")
		for _, k := range slices.Sorted(maps.Keys(keysOf(v))) {
			b.WriteString("<" + name + ">")
			if err := element(b, key, k); err != nil {
				return err
			}
			if err := writeMember(b, value, "", v.MapIndex(reflect.ValueOf(k))); err != nil {
				return err
			}
			b.WriteString("</" + name + ">")
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := writeMember(b, name, "", v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		b.WriteString("<" + name + ">")
		if err := writeXML(b, v); err != nil {
			return err
		}
		b.WriteString("</" + name + ">")
	default:
		panic(fmt.Sprintf("sqs/wire: a member of type %s", v.Type()))
	}
	return nil
}

func keysOf(v reflect.Value) map[string]bool {
	keys := map[string]bool{}
	for _, k := range v.MapKeys() {
		keys[k.String()] = true
	}
	return keys
}

func element(b *bytes.Buffer, name, text string) error {
	b.WriteString("<" + name + ">")
	if err := xml.EscapeText(b, []byte(text)); err != nil {
		return err
	}
	b.WriteString("</" + name + ">")
	return nil
}

func errorXML(code awsjson.Code, message, requestID string) []byte {
	fault := "Sender"
	if code.Status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	b, err := xml.Marshal(struct {
		XMLName   xml.Name `xml:"ErrorResponse"`
		Namespace string   `xml:"xmlns,attr"`
		Type      string   `xml:"Error>Type"`
		Code      string   `xml:"Error>Code"`
		Message   string   `xml:"Error>Message"`
		RequestID string   `xml:"RequestId"`
	}{Namespace: namespace, Type: fault, Code: code.Query, Message: message, RequestID: requestID})
	if err != nil {
		panic(err) // a fixed struct of strings
	}
	return append([]byte(xml.Header), b...)
}
