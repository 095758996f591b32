// Calls certkeep with Alibaba's client for Go, the one that Terraform's provider uses. Each line of the input is a list of calls,
// which run at the same time. Each line of the output is the list of their answers. tests/integration/slb_clients/mod.rs
// describes both.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync"

	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/slb"
)

type call struct {
	Style       string          `json:"style"`
	Endpoint    string          `json:"endpoint"`
	AccessKeyId string          `json:"access_key_id"`
	Secret      string          `json:"secret"`
	Region      string          `json:"region"`
	Action      string          `json:"action"`
	Parameters  json.RawMessage `json:"parameters"`
	Format      string          `json:"format"`
	Method      string          `json:"method"`
	SendTwice   bool            `json:"send_twice"`
}

type failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Status    int    `json:"status"`
	RequestId string `json:"request_id"`
	Recommend string `json:"recommend"`
}

type answer struct {
	Answer  any      `json:"answer,omitempty"`
	Error   *failure `json:"error,omitempty"`
	Failure string   `json:"failure,omitempty"`
}

// Sends each request a second time, and keeps the second answer.
type twice struct{}

func (twice) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	first, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	first.Body.Close()
	request.Body = io.NopCloser(bytes.NewReader(body))
	return http.DefaultTransport.RoundTrip(request)
}

// A typed request, as the provider's server certificate sends it: the parameters go into the query.
func typed(client *slb.Client, call call) (any, error) {
	calls := map[string][2]any{
		"UploadServerCertificate":    {slb.CreateUploadServerCertificateRequest, client.UploadServerCertificate},
		"DescribeServerCertificates": {slb.CreateDescribeServerCertificatesRequest, client.DescribeServerCertificates},
		"DeleteServerCertificate":    {slb.CreateDeleteServerCertificateRequest, client.DeleteServerCertificate},
		"SetServerCertificateName":   {slb.CreateSetServerCertificateNameRequest, client.SetServerCertificateName},
		"UploadCACertificate":        {slb.CreateUploadCACertificateRequest, client.UploadCACertificate},
		"DescribeCACertificates":     {slb.CreateDescribeCACertificatesRequest, client.DescribeCACertificates},
		"DeleteCACertificate":        {slb.CreateDeleteCACertificateRequest, client.DeleteCACertificate},
		"SetCACertificateName":       {slb.CreateSetCACertificateNameRequest, client.SetCACertificateName},
		"DescribeRegions":            {slb.CreateDescribeRegionsRequest, client.DescribeRegions},
		"TagResources":               {slb.CreateTagResourcesRequest, client.TagResources},
		"UntagResources":             {slb.CreateUntagResourcesRequest, client.UntagResources},
		"ListTagResources":           {slb.CreateListTagResourcesRequest, client.ListTagResources},
		"MoveResourceGroup":          {slb.CreateMoveResourceGroupRequest, client.MoveResourceGroup},
		"DescribeLoadBalancers":      {slb.CreateDescribeLoadBalancersRequest, client.DescribeLoadBalancers},
	}
	functions, known := calls[call.Action]
	if !known {
		return nil, fmt.Errorf("the client has no action %s", call.Action)
	}
	request := reflect.ValueOf(functions[0]).Call(nil)[0]
	// The names of the fields are the names of the parameters.
	if err := json.Unmarshal(call.Parameters, request.Interface()); err != nil {
		return nil, err
	}
	acs := request.Interface().(requests.AcsRequest)
	acs.SetScheme("http")
	if call.Method != "" {
		request.Elem().FieldByName("Method").SetString(call.Method)
	}
	if call.Format != "" {
		request.Elem().FieldByName("AcceptFormat").SetString(call.Format)
	}
	results := reflect.ValueOf(functions[1]).Call([]reflect.Value{request})
	if err, failed := results[1].Interface().(error); failed {
		return nil, err
	}
	return results[0].Interface(), nil
}

// A form, as the provider's CA certificate and its reading of tags send it.
func form(client *slb.Client, call call) (any, error) {
	var parameters map[string]any
	if err := json.Unmarshal(call.Parameters, &parameters); err != nil {
		return nil, err
	}
	request := requests.NewCommonRequest()
	request.Scheme, request.Method, request.ApiName, request.Version = "http", "POST", call.Action, "2014-05-15"
	request.Domain = call.Endpoint
	request.FormParams = map[string]string{}
	for name, value := range parameters {
		if name == "RegionId" {
			// The client itself would add its own region to the query.
			request.QueryParams[name] = fmt.Sprint(value)
		} else {
			flatten(request.FormParams, name, value)
		}
	}
	response, err := client.ProcessCommonRequest(request)
	if err != nil {
		return nil, err
	}
	return object(response)
}

// Lists are flat, and count from 1: Tag.1.Key.
func flatten(into map[string]string, name string, value any) {
	switch value := value.(type) {
	case []any:
		for index, item := range value {
			flatten(into, fmt.Sprintf("%s.%d", name, index+1), item)
		}
	case map[string]any:
		for key, item := range value {
			flatten(into, name+"."+key, item)
		}
	default:
		into[name] = fmt.Sprint(value)
	}
}

func object(response *responses.CommonResponse) (any, error) {
	var object any
	err := json.Unmarshal(response.GetHttpContentBytes(), &object)
	return object, err
}

func run(call call) answer {
	client, err := slb.NewClientWithAccessKey(call.Region, call.AccessKeyId, call.Secret)
	if err != nil {
		return answer{Failure: err.Error()}
	}
	client.Domain = call.Endpoint
	if call.SendTwice {
		client.SetTransport(twice{})
	}
	var result any
	if call.Style == "go-form" {
		result, err = form(client, call)
	} else {
		result, err = typed(client, call)
	}
	var refused *sdkerrors.ServerError
	if errors.As(err, &refused) {
		return answer{Error: &failure{refused.ErrorCode(), refused.Message(), refused.HttpStatus(), refused.RequestId(), refused.Recommend()}}
	}
	if err != nil {
		return answer{Failure: err.Error()}
	}
	return answer{Answer: result}
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadString('\n')
		if strings.TrimSpace(line) == "" && err != nil {
			return
		}
		var calls []call
		if err := json.Unmarshal([]byte(line), &calls); err != nil {
			panic(err)
		}
		answers := make([]answer, len(calls))
		var all sync.WaitGroup
		for index, call := range calls {
			all.Add(1)
			go func() {
				defer all.Done()
				answers[index] = run(call)
			}()
		}
		all.Wait()
		out, err := json.Marshal(answers)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(out))
	}
}
