# A small nixpkgs for evaluating our flake without network: see default.nix.
{
  outputs = _: {
    lib = import ./lib.nix;
  };
}
