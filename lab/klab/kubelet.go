package main

// The kubelet here is Kubernetes' own code (as kubemark assembles it). Only the container runtime
// under it is replaced: a container is a plain local process. There are no namespaces, no cgroups
// and no images, so:
//   - a memory limit limits nothing. A process that ended with 137 counts as OOMKilled only when
//     its pod carries the annotation lab/oom: "true" at the time the container was created;
//   - an image is "pulled" at once, unless its name holds the word "missing";
//   - every pod has an address of its own in 127.1.0.0/16 (all of 127/8 is bindable on Linux), but
//     a process that connects without binding still comes from 127.0.0.1;
//   - httpGet probes go to the pod's address unless they name a host; exec probes run for real.

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	clientset "k8s.io/client-go/kubernetes"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	apitest "k8s.io/cri-api/pkg/apis/testing"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	cadvisortest "k8s.io/kubernetes/pkg/kubelet/cadvisor/testing"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubemark"
	utilexec "k8s.io/utils/exec"
)

const (
	oomAnnotation  = "lab/oom"
	exitKilled     = 128 + int32(syscall.SIGKILL)
	defaultBackoff = 10 * time.Second
)

// container is what the runtime remembers of one container besides what the fake keeps.
type container struct {
	config   *runtimeapi.ContainerConfig
	hostname string
	logPath  string
	oom      bool
	process  *os.Process
	ended    chan struct{}
}

// processRuntime is the fake CRI runtime of Kubernetes' own tests, with real processes in it.
type processRuntime struct {
	*apitest.FakeRuntimeService
	mu         sync.Mutex
	containers map[string]*container
	addresses  int
}

func (r *processRuntime) get(id string) *container {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.containers[id]
}

func (r *processRuntime) RunPodSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	id, err := r.FakeRuntimeService.RunPodSandbox(ctx, config, handler)
	if err != nil {
		return id, err
	}
	r.mu.Lock()
	r.addresses++
	n := r.addresses
	r.mu.Unlock()
	r.FakeRuntimeService.Lock()
	r.Sandboxes[id].Network.Ip = fmt.Sprintf("127.1.%d.%d", n/250%250, n%250+1)
	r.FakeRuntimeService.Unlock()
	return id, nil
}

func (r *processRuntime) CreateContainer(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (string, error) {
	id, err := r.FakeRuntimeService.CreateContainer(ctx, sandbox, config, pod)
	if err != nil {
		return id, err
	}
	path := filepath.Join(pod.LogDirectory, config.LogPath)
	r.mu.Lock()
	r.containers[id] = &container{
		config:   config,
		hostname: pod.Hostname,
		logPath:  path,
		oom:      pod.Annotations[oomAnnotation] == "true",
	}
	r.mu.Unlock()
	r.FakeRuntimeService.Lock()
	r.Containers[id].LogPath = path
	r.FakeRuntimeService.Unlock()
	return id, nil
}

// environment is PATH, HOSTNAME and what the pod asks for; the last of equal names wins.
func (c *container) environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOSTNAME=" + c.hostname}
	for _, pair := range c.config.Envs {
		env = append(env, pair.Key+"="+string(pair.Value))
	}
	return env
}

func (r *processRuntime) StartContainer(ctx context.Context, id string) error {
	c := r.get(id)
	if c == nil {
		return fmt.Errorf("container %q not found", id)
	}
	argv := append(append([]string{}, c.config.Command...), c.config.Args...)
	if len(argv) == 0 {
		return errors.New("failed to create containerd task: no command specified")
	}
	if err := os.MkdirAll(filepath.Dir(c.logPath), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(c.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		log.Close()
		return err
	}
	stderr, stderrEnd, err := os.Pipe()
	if err != nil {
		log.Close()
		stdout.Close()
		stdoutEnd.Close()
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = c.environment(), c.config.WorkingDir
	cmd.Stdout, cmd.Stderr = stdoutEnd, stderrEnd
	// A group of its own, so that all of a container ends together, and not after the kubelet.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	err = cmd.Start()
	stdoutEnd.Close()
	stderrEnd.Close()
	if err != nil {
		stdout.Close()
		stderr.Close()
		log.Close()
		return fmt.Errorf("failed to start container process: exec: %q: %w", argv[0], err)
	}
	if err := r.FakeRuntimeService.StartContainer(ctx, id); err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		log.Close()
		return err
	}
	ended := make(chan struct{})
	r.mu.Lock()
	c.process, c.ended = cmd.Process, ended
	r.mu.Unlock()

	var pumps sync.WaitGroup
	var line sync.Mutex
	pumps.Add(2)
	go pump(&pumps, &line, log, "stdout", stdout)
	go pump(&pumps, &line, log, "stderr", stderr)
	go func() {
		waited := cmd.Wait()
		// The first process of a container takes the others with it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		pumps.Wait()
		log.Close()
		code, reason := outcome(waited, cmd.ProcessState, c.oom)
		r.FakeRuntimeService.Lock()
		if known, ok := r.Containers[id]; ok && known.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			known.State = runtimeapi.ContainerState_CONTAINER_EXITED
			known.ExitCode, known.Reason, known.FinishedAt = code, reason, time.Now().UnixNano()
		}
		r.FakeRuntimeService.Unlock()
		close(ended)
	}()
	return nil
}

// outcome gives the exit code as a container runtime counts it (128 + signal) and the reason.
func outcome(waited error, state *os.ProcessState, oom bool) (int32, string) {
	if waited == nil {
		return 0, "Completed"
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok {
		return 1, "Error"
	}
	code := int32(status.ExitStatus())
	if status.Signaled() {
		code = 128 + int32(status.Signal())
	}
	if code == exitKilled && oom {
		return code, "OOMKilled"
	}
	return code, "Error"
}

// pump writes one stream to the container's log in the CRI format, line by line.
func pump(done *sync.WaitGroup, line *sync.Mutex, log io.Writer, stream string, from io.ReadCloser) {
	defer done.Done()
	defer from.Close()
	reader := bufio.NewReader(from)
	for {
		text, err := reader.ReadString('\n')
		if len(text) > 0 {
			text = strings.TrimSuffix(text, "\n")
			line.Lock()
			fmt.Fprintf(log, "%s %s F %s\n", time.Now().UTC().Format(time.RFC3339Nano), stream, text)
			line.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (r *processRuntime) StopContainer(ctx context.Context, id string, timeout int64) error {
	c := r.get(id)
	if c == nil || c.process == nil {
		return r.FakeRuntimeService.StopContainer(ctx, id, timeout)
	}
	group := -c.process.Pid
	select {
	case <-c.ended:
		return nil
	default:
	}
	_ = syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-c.ended:
		return nil
	case <-time.After(time.Duration(timeout) * time.Second):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *processRuntime) RemoveContainer(ctx context.Context, id string) error {
	err := r.FakeRuntimeService.RemoveContainer(ctx, id)
	if err == nil {
		r.mu.Lock()
		delete(r.containers, id)
		r.mu.Unlock()
	}
	return err
}

// ExecSync runs an exec probe with the container's own environment and folder.
func (r *processRuntime) ExecSync(ctx context.Context, id string, argv []string, timeout time.Duration) ([]byte, []byte, error) {
	c := r.get(id)
	if c == nil || len(argv) == 0 {
		return nil, nil, fmt.Errorf("container %q not found or nothing to run", id)
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = c.environment(), c.config.WorkingDir
	cmd.WaitDelay = time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exited *exec.ExitError
	if ctx.Err() == nil && errors.As(err, &exited) {
		err = utilexec.CodeExitError{Err: err, Code: exited.ExitCode()}
	}
	return []byte(stdout.String()), []byte(stderr.String()), err
}

// imageService has every image but those whose name holds "missing".
type imageService struct{ *apitest.FakeImageService }

func (s *imageService) PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, pod *runtimeapi.PodSandboxConfig) (string, error) {
	if strings.Contains(image.Image, "missing") {
		return "", fmt.Errorf("rpc error: code = NotFound desc = failed to pull and unpack image %q: "+
			"failed to resolve reference %q: %s: not found", image.Image, image.Image, image.Image)
	}
	return s.FakeImageService.PullImage(ctx, image, auth, pod)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "klab kubelet:", err)
		os.Exit(1)
	}
}

func runKubelet() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig file of a user who may register a node")
	node := flag.String("node", "localhost", "the node's name; must resolve to a loopback address")
	port := flag.Int("port", 0, "port of the kubelet's own server (the API server reads logs there)")
	certificate := flag.String("tls-cert", "", "certificate of that server")
	key := flag.String("tls-key", "", "its key")
	root := flag.String("root", "", "folder for pod logs and state")
	backoff := flag.Duration("max-backoff", defaultBackoff, "longest pause of a crash loop")
	must(flag.CommandLine.Parse(os.Args[1:]))

	ctx := context.Background()
	access, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	must(err)
	client, err := clientset.NewForConfig(access)
	must(err)

	flags, config := kubemark.GetHollowKubeletConfig(&kubemark.HollowKubeletOptions{NodeName: *node, KubeletPort: *port, MaxPods: 110})
	must(os.RemoveAll(flags.RootDirectory)) // kubemark made a folder of its own under TMPDIR
	flags.RootDirectory, flags.CertDirectory = *root, *root
	config.StaticPodPath = ""
	config.Address = "127.0.0.1"
	config.TLSCertFile, config.TLSPrivateKeyFile = *certificate, *key
	config.PodLogsDir = filepath.Join(*root, "pod-logs")
	config.SyncFrequency.Duration = time.Second
	config.ResolverConfig = ""
	config.ClusterDNS, config.ClusterDomain = []string{"10.0.0.10"}, "cluster.local"
	config.CrashLoopBackOff.MaxContainerRestartPeriod = &metav1.Duration{Duration: *backoff}
	must(utilfeature.DefaultMutableFeatureGate.Set("KubeletCrashLoopBackOffMax=true"))
	// Nothing of the machine itself is touched: no swap, no cgroups, no iptables, no quotas.
	config.MemorySwap.SwapBehavior = ""
	config.EnforceNodeAllocatable = nil
	config.CPUCFSQuota = false
	config.MakeIPTablesUtilChains = false
	config.LocalStorageCapacityIsolation = false
	for _, folder := range []string{*root, config.PodLogsDir} {
		must(os.MkdirAll(folder, 0o755))
	}

	runtime := &processRuntime{FakeRuntimeService: apitest.NewFakeRuntimeService(), containers: map[string]*container{}}
	runtime.FakeStatus = &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}
	hollow := kubemark.NewHollowKubelet(flags, config, client, client, &cadvisortest.Fake{NodeName: *node},
		&imageService{apitest.NewFakeImageService()}, runtime, cm.NewStubContainerManager())
	parts := hollow.KubeletDeps
	parts.OSInterface = kubecontainer.RealOS{}
	parts.ProbeManager = nil // kubemark's does not probe; nil means the real one
	events := record.NewBroadcaster()
	events.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	parts.Recorder = events.NewRecorder(legacyscheme.Scheme, v1.EventSource{Component: "kubelet", Host: *node})
	parts.TLSOptions, err = kubeletapp.InitializeTLS(ctx, flags, config)
	must(err)
	hollow.Run(ctx)
}
