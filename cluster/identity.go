package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"sluice/internal/disk"
)

// identityFormat is the version of node.json.
const identityFormat = 2

// Identity is what a data folder says of its node, in node.json.
type Identity struct {
	Format  int    `json:"format"`
	NodeID  string `json:"node_id"`
	Cluster string `json:"cluster"`
	// ClusterID is set once the node belongs to a cluster, and never changes then.
	ClusterID string `json:"cluster_id,omitempty"`
	// Promised is the one cluster that the node agreed to found. It is never taken back.
	Promised string `json:"promised,omitempty"`
	// Established is set once raft has written something in the folder: from then on it must be there.
	Established bool `json:"established,omitempty"`
	// RestoredIndex is the last entry of the newest state that was taken over from a leader: the log need not hold
	// what comes before it.
	RestoredIndex uint64 `json:"restored_index,omitempty"`
	// Checksum is the CRC-32C of all of the above as JSON: a node that is wrong about its cluster would run, and be
	// refused by everyone, for ever.
	Checksum uint32 `json:"checksum"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed is the identity with its checksum.
func (i Identity) sealed() (Identity, error) {
	i.Checksum = 0
	content, err := json.Marshal(i)
	i.Checksum = crc32.Checksum(content, castagnoli)
	return i, err
}

// folder is a locked data folder and the identity in it.
type folder struct {
	files disk.FS
	dir   string
	lock  io.Closer
	// mu guards identity, which is on disk before it is seen here.
	mu       sync.Mutex
	identity Identity
}

// openFolder makes the folder if it is absent, locks it against other processes, and checks whose it is.
func openFolder(files disk.FS, dir, nodeID, cluster string) (*folder, error) {
	if err := disk.MakeFolders(files, dir, 0o750); err != nil {
		return nil, fmt.Errorf("cluster: data folder: %w", err)
	}
	if err := ours(files, dir); err != nil {
		return nil, err
	}
	lock, err := lockFolder(files, dir)
	if err != nil {
		return nil, err
	}
	f := &folder{files: files, dir: dir, lock: lock}
	if err := f.take(nodeID, cluster); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// ours refuses a folder that is not empty and is no node's.
func ours(files disk.FS, dir string) error {
	names, err := disk.List(files, dir)
	if err != nil {
		return fmt.Errorf("cluster: data folder: %w", err)
	}
	foreign := ""
	for _, name := range names {
		switch name {
		case "node.json", "groups":
			return nil
		case "LOCK", "node.json.new", "lost+found": // of a node that never got further, or of the file system
		default:
			foreign = name
		}
	}
	if foreign != "" {
		return fmt.Errorf("cluster: the data folder %s holds %q and is no node's: give the node an empty folder", dir, foreign)
	}
	return nil
}

func lockFolder(files disk.FS, dir string) (io.Closer, error) {
	lock, err := files.Lock(filepath.Join(dir, "LOCK"))
	switch {
	case errors.Is(err, disk.ErrLocked):
		return nil, fmt.Errorf("cluster: the data folder %s is in use by another process: stop it first, or give this node a folder of its own", dir)
	case err != nil:
		return nil, fmt.Errorf("cluster: data folder: %w", err)
	}
	return lock, nil
}

// take reads node.json, or writes a first one, and refuses a folder of another node or cluster.
func (f *folder) take(nodeID, cluster string) error {
	path := filepath.Join(f.dir, "node.json")
	data, err := disk.ReadFile(f.files, path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := f.files.Stat(filepath.Join(f.dir, "groups")); err == nil {
			return fmt.Errorf("cluster: %s holds data, but no node.json that says whose: restore the file, or give the node an empty folder and a new node id", f.dir)
		}
		return f.update(func(i *Identity) error {
			*i = Identity{Format: identityFormat, NodeID: nodeID, Cluster: cluster}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	var i Identity
	if err := json.Unmarshal(data, &i); err != nil {
		return fmt.Errorf("cluster: %s cannot be read (%w): restore it, or give the node an empty folder and a new node id", path, err)
	}
	sealed, err := i.sealed()
	switch {
	case err != nil:
		return fmt.Errorf("cluster: identity: %w", err)
	case i.Format != identityFormat:
		return fmt.Errorf("cluster: %s has format %d, this version reads %d", path, i.Format, identityFormat)
	case i != sealed:
		return fmt.Errorf("cluster: %s is damaged (its checksum is %d, its content's is %d): restore it, or give the node an empty folder and a new node id", path, i.Checksum, sealed.Checksum)
	case i.NodeID != nodeID:
		return fmt.Errorf("cluster: the data folder %s belongs to node %q, asked was node %q", f.dir, i.NodeID, nodeID)
	case i.Cluster != cluster:
		return fmt.Errorf("cluster: the data folder %s belongs to cluster %q, asked was cluster %q", f.dir, i.Cluster, cluster)
	}
	f.identity = i
	return nil
}

// current is the identity as it is on disk.
func (f *folder) current() Identity {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.identity
}

// update changes the identity, on disk first, unless change refuses.
func (f *folder) update(change func(*Identity) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.identity
	if err := change(&next); err != nil {
		return err
	}
	next, err := next.sealed()
	if err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	if next == f.identity {
		return nil
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	if err := disk.ReplaceFile(f.files, filepath.Join(f.dir, "node.json"), append(data, '\n')); err != nil {
		return fmt.Errorf("cluster: identity: %w", err)
	}
	f.identity = next
	return nil
}

// belong makes the node a member of a cluster for good; another cluster than before is refused.
func (f *folder) belong(clusterID string) error {
	return f.update(func(i *Identity) error {
		if i.ClusterID != "" && i.ClusterID != clusterID {
			return fmt.Errorf("cluster: the data folder %s belongs to cluster id %s, not to %s", f.dir, i.ClusterID, clusterID)
		}
		i.ClusterID = clusterID
		return nil
	})
}

// establish notes that raft has written something in the folder.
func (f *folder) establish() error {
	return f.update(func(i *Identity) error {
		i.Established = true
		return nil
	})
}

// restored notes that the state of an index is taken over from the leader.
func (f *folder) restored(index uint64) error {
	return f.update(func(i *Identity) error {
		i.RestoredIndex = max(i.RestoredIndex, index)
		return nil
	})
}

// promise agrees to found one cluster; a second one is refused.
func (f *folder) promise(clusterID string) error {
	return f.update(func(i *Identity) error {
		for _, other := range []string{i.ClusterID, i.Promised} {
			if other != "" && other != clusterID {
				return fmt.Errorf("cluster: node %s has promised to found cluster id %s, not %s", i.NodeID, other, clusterID)
			}
		}
		i.Promised = clusterID
		return nil
	})
}

func (f *folder) close() error { return f.lock.Close() }
