package hubapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// maxTreeAnswer bounds the answer to a tree push, which lists a hash for every
// file that is missing: room for some ten million files.
const maxTreeAnswer = 1 << 30

// BeginTree announces the whole content of a tree's next generation and
// learns which contents must be uploaded.
func (c *Client) BeginTree(ctx context.Context, tree string, req TreePushRequest) (TreePush, error) {
	var p TreePush
	if err := checkName("tree", tree); err != nil {
		return p, err
	}
	request, err := jsonCall(http.MethodPost, TreePath(tree, "push"), req, false)
	if err != nil {
		return p, err
	}
	request.maxAnswer = maxTreeAnswer
	return p, treeErr("begin push of", tree, c.do(ctx, request, &p))
}

// TreePush reads a push that was begun, with what is missing now.
func (c *Client) TreePush(ctx context.Context, tree, id string) (TreePush, error) {
	var p TreePush
	if err := checkPush(tree, id); err != nil {
		return p, err
	}
	request := call{method: http.MethodGet, path: TreePath(tree, "push", id), maxAnswer: maxTreeAnswer}
	return p, treeErr("read push of", tree, c.do(ctx, request, &p))
}

// UploadBlobs sends contents of a push in one request; the part names are
// their SHA-256 in hex. The answer is as that of [Client.Upload].
func (c *Client) UploadBlobs(ctx context.Context, tree, id string, parts []Part) ([]int64, error) {
	if err := checkPush(tree, id); err != nil {
		return nil, err
	}
	stored, err := c.upload(ctx, TreePath(tree, "push", id, "upload"), parts)
	return stored, treeErr("upload into", tree, err)
}

// PublishTree switches the tree to the pushed generation.
func (c *Client) PublishTree(ctx context.Context, tree, id string) (Generation, error) {
	var g Generation
	if err := checkPush(tree, id); err != nil {
		return g, err
	}
	return g, treeErr("publish", tree, c.send(ctx, http.MethodPost, TreePath(tree, "push", id, "publish"), struct{}{}, &g))
}

// CancelTree gives up a push. That it is gone already is no error.
func (c *Client) CancelTree(ctx context.Context, tree, id string) error {
	if err := checkPush(tree, id); err != nil {
		return err
	}
	err := c.send(ctx, http.MethodDelete, TreePath(tree, "push", id), nil, nil)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return nil
	}
	return treeErr("cancel push of", tree, err)
}

// TreeInfo reads a tree and its readable generations.
func (c *Client) TreeInfo(ctx context.Context, tree string) (TreeInfo, error) {
	var t TreeInfo
	if err := checkName("tree", tree); err != nil {
		return t, err
	}
	return t, treeErr("read", tree, c.send(ctx, http.MethodGet, TreePath(tree), nil, &t))
}

func checkPush(tree, id string) error {
	return errors.Join(checkName("tree", tree), checkName("push", id))
}

func treeErr(op, tree string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s tree %s: %w", op, tree, err)
}
