// Uploads a pair, tags it, and lists all certificates with its fingerprint. docs/clients.md explains each part.
//
//	mkdir -p examples/go/gen && printf 'module github.com/certkeep/certkeep/gen/go\n\ngo 1.26.0\n' >examples/go/gen/go.mod
//	cp proto/service_config.json examples/go
//	GOBIN=$PWD/examples/go/bin go install -C examples/go tool
//	PATH=$PWD/examples/go/bin:$PATH protoc -I proto --go_out=examples/go/gen --go-grpc_out=examples/go/gen \
//		--go_opt=module=github.com/certkeep/certkeep/gen/go --go-grpc_opt=module=github.com/certkeep/certkeep/gen/go \
//		certkeep/v1/reason.proto certkeep/v1/resources.proto certkeep/v1/certificate_service.proto
//	go build -C examples/go -o bin/upload .
//	examples/go/bin/upload --region cn-hangzhou --access-key-file ~/.local/share/certkeep/admin.key \
//		--cert cert.pem --key key.pem
//
// Exit code 1: certkeep refused a call. 2: wrong usage. 4: it is unknown whether a call took effect.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	_ "embed"
	"flag"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/certkeep/certkeep/gen/go/certkeep/v1"
)

// The deadline and the retry policy of each method.
//
//go:embed service_config.json
var serviceConfig string

// accessKey is sent with every call.
type accessKey struct {
	secret   string
	needsTLS bool
}

func (key accessKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + key.secret}, nil
}

// RequireTransportSecurity makes gRPC refuse to send the access key in plain text.
func (key accessKey) RequireTransportSecurity() bool { return key.needsTLS }

// connect makes one channel. Share it between all goroutines of a process: it opens its connection again when it breaks.
func connect(endpoint, secret, caFile string) (*grpc.ClientConn, error) {
	target, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	host := target.Hostname()
	isLoopback := host == "localhost" || net.ParseIP(host).IsLoopback()
	var transport credentials.TransportCredentials
	switch {
	case target.Scheme == "https" && caFile != "":
		transport, err = credentials.NewClientTLSFromFile(caFile, "")
	case target.Scheme == "https":
		// Trusts the system's CA certificates.
		transport = credentials.NewTLS(&tls.Config{})
	case target.Scheme == "http" && isLoopback:
		transport = insecure.NewCredentials()
	default:
		err = fmt.Errorf("%s would get the access key in plain text over the network: use https", endpoint)
	}
	if err != nil {
		return nil, err
	}
	key := accessKey{secret, target.Scheme == "https"}
	return grpc.NewClient(target.Host, grpc.WithTransportCredentials(transport), grpc.WithPerRPCCredentials(key),
		grpc.WithDefaultServiceConfig(serviceConfig))
}

// upload stores the pair, tags it, and prints all certificates with its fingerprint.
func upload(service pb.CertificateServiceClient, request *pb.UploadServerCertificateRequest) error {
	ctx := context.Background()
	uploaded, err := service.UploadServerCertificate(ctx, request)
	if err != nil {
		return err
	}
	showFindings(uploaded.Findings)
	_, err = service.TagResources(ctx, &pb.TagResourcesRequest{
		RegionId:     uploaded.RegionId,
		ResourceType: "certificate",
		ResourceIds:  []string{uploaded.ServerCertificateId},
		Tags:         []*pb.Tag{{Key: "example", Value: "go"}},
	})
	if err != nil {
		return err
	}
	search := &pb.SearchServerCertificatesRequest{Fingerprint: uploaded.FingerprintSha256}
	for {
		page, err := service.SearchServerCertificates(ctx, search)
		if err != nil {
			return err
		}
		for _, certificate := range page.ServerCertificates {
			fmt.Println(certificate.ServerCertificateId, certificate.CommonName, certificate.ExpireTime)
		}
		if page.NextPageToken == "" {
			return nil
		}
		search.PageToken = page.NextPageToken
	}
}

func showFindings(findings []*pb.Finding) {
	for _, finding := range findings {
		severity := strings.ToLower(strings.TrimPrefix(finding.Severity.String(), "SEVERITY_"))
		name := strings.TrimPrefix(finding.Code.String(), "FINDING_CODE_")
		log.Print(strings.TrimSuffix(fmt.Sprintf("%s %s: %s; %s", severity, name, finding.Message, finding.Remedy), "; "))
	}
}

// show prints the reason, every wrong field, the findings and the request id, which is also in the log of the service.
func show(err error) {
	refused := status.Convert(err)
	log.Printf("%s: %s", code.Code(refused.Code()), refused.Message())
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			log.Printf("  reason %s", detail.Reason)
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				log.Printf("  %s: %s", violation.Field, violation.Description)
			}
		case *pb.Findings:
			showFindings(detail.Findings)
		case *errdetails.RequestInfo:
			log.Printf("  request id %s", detail.RequestId)
		}
	}
}

func exit(status int, message any) {
	log.Print(message)
	os.Exit(status)
}

func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		exit(2, err)
	}
	// gRPC sends UTF-8 only. certkeep's error says what the file contains instead of PEM.
	return strings.ToValidUTF8(string(content), "\uFFFD")
}

func main() {
	log.SetFlags(0)
	endpoint := flag.String("endpoint", "http://127.0.0.1:50051", "URL of certkeep")
	caFile := flag.String("ca-file", "", "trust the CA certificates in this file instead of the system's")
	clientToken := flag.String("client-token", rand.Text(), "the token of an earlier upload, to repeat that upload")
	accessKeyFile := flag.String("access-key-file", "", "file with the access key")
	region := flag.String("region", "", "region of the certificate")
	cert := flag.String("cert", "", "PEM file with the certificate and its chain")
	key := flag.String("key", "", "PEM file with the private key")
	flag.Parse()
	for _, name := range []string{"access-key-file", "region", "cert", "key"} {
		if flag.Lookup(name).Value.String() == "" {
			exit(2, "--"+name+" is missing")
		}
	}
	request := &pb.UploadServerCertificateRequest{
		RegionId:          *region,
		ServerCertificate: read(*cert),
		PrivateKey:        read(*key),
		// However often the call is repeated, the pair is stored once.
		ClientToken: *clientToken,
	}
	channel, err := connect(*endpoint, strings.TrimSpace(read(*accessKeyFile)), *caFile)
	if err != nil {
		exit(2, err)
	}
	defer channel.Close()
	if err := upload(pb.NewCertificateServiceClient(channel), request); err != nil {
		show(err)
		switch status.Code(err) {
		// The reason OUTCOME_UNKNOWN, or no answer.
		case codes.Unknown, codes.Unavailable, codes.DeadlineExceeded:
			exit(4, "It is unknown whether the call took effect. Repeat the command with --client-token "+*clientToken)
		}
		os.Exit(1)
	}
}
