// One member of hashicorp/memberlist, driven by lines on standard input and telling of itself in lines of JSON.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

var output sync.Mutex

func tell(fields map[string]any) {
	output.Lock()
	defer output.Unlock()
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

type events struct{}

func (events) NotifyJoin(n *memberlist.Node)   { tell(map[string]any{"event": "join", "name": n.Name}) }
func (events) NotifyLeave(n *memberlist.Node)  { tell(map[string]any{"event": "leave", "name": n.Name}) }
func (events) NotifyUpdate(n *memberlist.Node) { tell(map[string]any{"event": "update", "name": n.Name}) }

func main() {
	name := flag.String("name", "", "the member's name")
	bind := flag.String("bind", "127.0.0.1", "the address to listen at")
	port := flag.Int("port", 7946, "the port, TCP and UDP")
	key := flag.String("key", "", "the key in hexadecimal digits")
	label := flag.String("label", "", "the label")
	compress := flag.Bool("compress", true, "whether to compress")
	version := flag.Int("version", 2, "the protocol version: 1 pads what it encrypts")
	quiet := flag.Bool("quiet", true, "whether to drop the library's log")
	flag.Parse()

	config := memberlist.DefaultLANConfig()
	config.Name = *name
	config.BindAddr = *bind
	config.BindPort = *port
	config.AdvertisePort = *port
	config.EnableCompression = *compress
	config.ProtocolVersion = uint8(*version)
	config.Label = *label
	config.Events = events{}
	if *quiet {
		config.LogOutput = io.Discard
	}
	if *key != "" {
		secret, err := hex.DecodeString(*key)
		if err != nil {
			log.Fatal(err)
		}
		config.SecretKey = secret
	}
	list, err := memberlist.Create(config)
	if err != nil {
		log.Fatal(err)
	}
	tell(map[string]any{"event": "ready", "name": *name})
	obey(list)
}

func obey(list *memberlist.Memberlist) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "join":
			joined, err := list.Join(words[1:])
			tell(map[string]any{"answer": "join", "joined": joined, "error": fmt.Sprint(err)})
		case "members":
			names := []string{}
			for _, node := range list.Members() {
				names = append(names, node.Name)
			}
			tell(map[string]any{"answer": "members", "names": names, "health": list.GetHealthScore()})
		case "leave":
			err := list.Leave(time.Second)
			tell(map[string]any{"answer": "leave", "error": fmt.Sprint(err)})
		}
	}
}
