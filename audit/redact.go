package audit

import (
	"encoding/json"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// allowed are the parameters that are recorded, in lower case without hyphens:
// what names things, counts them, or is one of a few words. What is not here is
// left out, and counted. That goes for all that a caller writes freely, since
// people put secrets into it: environments, descriptions, tags, payloads,
// policies, patterns, code, URLs.
var allowed = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`
		functionname qualifier functionversion name version revisionid statementid action principal sourcearn sourceaccount
		runtime handler role timeout memorysize packagetype publish architectures dryrun layername versionnumber
		arn resource resourcearn resourcearns uuid eventsourcearn enabled batchsize maximumbatchingwindowinseconds
		startingposition parallelizationfactor reservedconcurrentexecutions provisionedconcurrentexecutions
		maximumretryattempts maximumeventageinseconds authtype invokemode codesigningconfigarn capacityprovidername
		recursiveloop updateruntimeon kmskeyarn s3bucket codesha256 durableexecutionname durableexecutionarn
		functionversionexistsstate marker maxitems maxresults limit
		loggroupname loggroupnameprefix logstreamname retentionindays starttime endtime
		rolename username groupname policyname policyarn policyid accesskeyid status path pathprefix rolearn
		rolesessionname durationseconds versionid setasdefault onlyattached scope instanceprofilename
		serialnumber maxsessionduration permissionsboundary actionnames resourcearnprefix
		policysourcearn callerarn resourceowner
		queuename queueurl queueownerawsaccountid label awsaccountid maxnumberofmessagesperSecond taskhandle destinationarn
		eventbusname rule ruleprefix eventsourcename state scheduleexpression targetarn ids force nameprefix
		archivename replayname statisticstype groupnameprefix actionaftercompletion flexibletimewindow scheduleexpressiontimezone
		apiid stagename routeid integrationid authorizerid deploymentid domainname routekey integrationtype protocoltype
		payloadformatversion connectiontype integrationmethod autodeploy
		function account accountid id node fleet owner alias offer offerid request kind
		since until who errors before system user group task stage memberof
	`) {
		m[strings.ToLower(name)] = true
	}
	return m
}()

// Parameters are a request's parameters as they may be recorded.
type Parameters struct {
	values  map[string]string
	omitted int
}

// add takes a parameter if it is allowed; value is "" for one whose form is
// not recorded.
func (p *Parameters) add(name, value string) {
	if value == "" || !allowed[strings.ToLower(strings.ReplaceAll(listed(name), "-", ""))] || len(p.values) >= maxParameters {
		p.omitted++
		return
	}
	if p.values == nil {
		p.values = map[string]string{}
	}
	p.values[plain(name, 64)] = plain(value, maxText)
}

// listed is the name of the list that a form's parameter is a member of, as in
// ActionNames.member.1; what has parts itself is no text, and stays as it is.
func listed(name string) string {
	list, n, ok := strings.Cut(name, ".member.")
	if _, err := strconv.Atoi(n); !ok || err != nil {
		return name
	}
	return list
}

// Name is the first of the parameters with one of the names, however they are
// written; "" if there is none.
func (p *Parameters) Name(names ...string) string {
	for _, name := range names {
		for _, key := range slices.Sorted(maps.Keys(p.values)) {
			if strings.EqualFold(key, name) {
				return p.values[key]
			}
		}
	}
	return ""
}

// To has the event say them.
func (p *Parameters) To(e *Event) { e.Parameters, e.Omitted = p.values, p.omitted }

// Label takes a parameter of a path.
func (p *Parameters) Label(name, escaped string) {
	if value, err := url.PathUnescape(escaped); err == nil {
		p.add(name, value)
	}
}

// Values takes the parameters of a query or a form. A signature in it is none.
func (p *Parameters) Values(v url.Values) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if name == "Action" || name == "Version" || strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		p.add(name, strings.Join(v[name], ","))
	}
}

// maxJSON bounds the bodies that are read for their parameters; of longer ones
// there are none.
const maxJSON = 256 << 10

// JSON takes the members of a body's object that are texts, numbers or true.
func (p *Parameters) JSON(body []byte) {
	if len(body) == 0 || len(body) > maxJSON {
		return
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return // the call says what is wrong with it
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		p.add(name, scalar(members[name]))
	}
}

func scalar(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// Struct takes the fields of an input (a pointer to a struct) that were set
// and are texts, numbers or truths.
func (p *Parameters) Struct(in any) {
	v := reflect.ValueOf(in)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return
	}
	v = v.Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || v.Field(i).IsZero() {
			continue
		}
		p.add(field.Name, fieldText(v.Field(i)))
	}
}

func fieldText(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	return ""
}
