// Uploads a pair, tags it, searches for it by its fingerprint, and prints the details of an error.
//
// Generate the client first, in this folder:
//
//	mkdir gen && printf 'module github.com/certkeep/certkeep/gen/go\n\ngo 1.24.0\n' >gen/go.mod
//	GOBIN=$PWD/bin go install tool
//	PATH=$PWD/bin:$PATH protoc -I ../../proto --go_out=gen --go_opt=module=github.com/certkeep/certkeep/gen/go \
//		--go-grpc_out=gen --go-grpc_opt=module=github.com/certkeep/certkeep/gen/go \
//		certkeep/v1/reason.proto certkeep/v1/resources.proto certkeep/v1/certificate_service.proto
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/certkeep/certkeep/gen/go/certkeep/v1"
)

// show prints the reason, every wrong field, and the request id. The request id is also in the server's log.
func show(err error) {
	refused := status.Convert(err)
	fmt.Fprintf(os.Stderr, "%s: %s\n", refused.Code(), refused.Message())
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Fprintf(os.Stderr, "  reason %s\n", detail.Reason)
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				fmt.Fprintf(os.Stderr, "  %s: %s\n", violation.Field, violation.Description)
			}
		case *errdetails.RequestInfo:
			fmt.Fprintf(os.Stderr, "  request id %s\n", detail.RequestId)
		}
	}
}

// upload stores the pair, tags it, and returns the stored certificates with its fingerprint.
func upload(ctx context.Context, service pb.CertificateServiceClient, region, cert, key string) ([]*pb.ServerCertificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	uploaded, err := service.UploadServerCertificate(ctx, &pb.UploadServerCertificateRequest{
		RegionId:          region,
		ServerCertificate: cert,
		PrivateKey:        key,
	})
	if err != nil {
		return nil, err
	}
	_, err = service.TagResources(ctx, &pb.TagResourcesRequest{
		RegionId:     uploaded.RegionId,
		ResourceType: "certificate",
		ResourceIds:  []string{uploaded.ServerCertificateId},
		Tags:         []*pb.Tag{{Key: "example", Value: "go"}},
	})
	if err != nil {
		return nil, err
	}
	found, err := service.SearchServerCertificates(ctx, &pb.SearchServerCertificatesRequest{
		Fingerprint: uploaded.FingerprintSha256,
	})
	return found.GetServerCertificates(), err
}

// read returns the content of a file, or exits.
func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return string(content)
}

func main() {
	address := flag.String("address", "127.0.0.1:50051", "address of certkeep")
	region := flag.String("region", "", "region of the certificate")
	accessKeyFile := flag.String("access-key-file", "", "file with the access key")
	certFile := flag.String("cert", "", "PEM file with the certificate and its chain")
	keyFile := flag.String("key", "", "PEM file with the private key")
	caFile := flag.String("ca-file", "", "use TLS and trust the CA certificates in this file")
	flag.Parse()
	flag.VisitAll(func(given *flag.Flag) {
		if given.Value.String() == "" && given.Name != "ca-file" {
			fmt.Fprintf(os.Stderr, "-%s is missing\n", given.Name)
			os.Exit(2)
		}
	})

	cert, key := read(*certFile), read(*keyFile)
	accessKey := strings.TrimSpace(read(*accessKeyFile))
	transport := insecure.NewCredentials()
	if *caFile != "" {
		var err error
		if transport, err = credentials.NewClientTLSFromFile(*caFile, ""); err != nil {
			log.Fatal(err)
		}
	}
	channel, err := grpc.NewClient(*address, grpc.WithTransportCredentials(transport))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()

	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+accessKey)
	certificates, err := upload(ctx, pb.NewCertificateServiceClient(channel), *region, cert, key)
	if err != nil {
		show(err)
		os.Exit(1)
	}
	for _, certificate := range certificates {
		fmt.Println(certificate.ServerCertificateId, certificate.CommonName, certificate.ExpireTime)
		fmt.Println(certificate.KeyAlgorithm, certificate.KeySize, certificate.Fingerprint)
	}
}
