// Renews a certificate under its etag again and again, beside other processes. Prints the version of each renewal.
//
// make builds it beside examples/go, with the same generated client.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/certkeep/certkeep/gen/go/certkeep/v1"
)

// reason returns the reason of an error, such as ETAG_MISMATCH.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return ""
}

func read(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatal(err)
	}
	return string(content)
}

// The arguments: address, access key, id, number of renewals, and the prefix of the files of two pairs.
func main() {
	address, accessKey, id, prefix := os.Args[1], os.Args[2], os.Args[3], os.Args[5]
	count, err := strconv.Atoi(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer channel.Close()
	service := pb.NewCertificateServiceClient(channel)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+accessKey)

	for renewed := 0; renewed < count; {
		found, err := service.GetServerCertificate(ctx, &pb.GetServerCertificateRequest{ServerCertificateId: id})
		if err != nil {
			log.Fatal(err)
		}
		pair := fmt.Sprintf("%s-%d", prefix, renewed%2)
		answer, err := service.RenewServerCertificate(ctx, &pb.RenewServerCertificateRequest{
			ServerCertificateId: id,
			ServerCertificate:   read(pair + ".pem"),
			PrivateKey:          read(pair + ".key"),
			IfEtag:              found.ServerCertificate.Etag,
		})
		switch {
		case err == nil && answer.PreviousVersion == found.ServerCertificate.Version:
			fmt.Println(answer.ServerCertificate.Version)
			renewed++
		case reason(err) != "ETAG_MISMATCH":
			log.Fatal(answer, err)
		}
	}
}
