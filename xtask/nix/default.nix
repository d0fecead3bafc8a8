# A small nixpkgs for evaluating our flake where there is no network.
#
# It builds nothing. Its functions insist on the arguments the real ones insist on, refuse those the real ones
# do not know, and return plain derivations that carry, as `asked`, what they were called with. A package that
# is not listed here is missing, as a misspelt one is missing in the real collection.
{
  system,
  config ? { },
}:
assert
  removeAttrs config [ "allowDeprecatedx86_64Darwin" ] == { }
  || throw "nixpkgs has no setting ${toString (builtins.attrNames config)}";
let
  lib = import ./lib.nix;

  called =
    name: asked:
    derivation {
      inherit name system;
      builder = "/bin/sh";
      # Evaluates the arguments to the last leaf: a fault deep in a list is a fault.
      args = [ (builtins.toJSON asked) ];
    }
    // {
      inherit asked;
      meta = {
        mainProgram = name;
      }
      // asked.meta or { };
    };

  tools = [
    "actionlint"
    "busybox"
    "cargo"
    "cargo-deny"
    "clippy"
    "cosign"
    "gh"
    "git"
    "go"
    "kind"
    "kubectl"
    "kubernetes-helm"
    "nixfmt"
    "nixfmt-tree"
    "podman"
    "rustc"
    "rustfmt"
  ];

  # A list of packages, as `contents`, `packages` and `nativeBuildInputs` want it.
  toolNames = map (
    element:
    if element.type or "" == "derivation" then
      element.name
    else
      throw "not a package: ${toString element}"
  );

  # nixpkgs looks at these when it checks a package; anything else in them is a slip of the pen.
  metaOf =
    {
      description,
      license,
      mainProgram ? null,
    }:
    assert license ? spdxId;
    {
      inherit description;
      license = license.spdxId;
      mainProgram = if builtins.isString mainProgram then mainProgram else throw "mainProgram is no name";
    };

  # The config of an image: https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md.
  imageConfigOf =
    {
      User,
      Entrypoint,
      Env,
      ExposedPorts,
      Volumes,
      WorkingDir,
      Labels,
    }@config:
    assert builtins.isList Entrypoint && builtins.isList Env;
    assert builtins.all builtins.isString (builtins.attrValues Labels);
    config;
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value = called name { };
  }) tools
)
// {
  stdenv = {
    cc = called "cc" { };
    hostPlatform = {
      inherit system;
      isLinux = builtins.match ".*-linux" system != null;
    };
  };

  fakeNss = called "fake-nss" { } // {
    override =
      {
        extraPasswdLines ? [ ],
        extraGroupLines ? [ ],
      }@asked:
      assert builtins.all builtins.isString (extraPasswdLines ++ extraGroupLines);
      called "fake-nss" asked;
  };

  rustPlatform.buildRustPackage =
    {
      pname,
      version,
      src,
      cargoLock,
      cargoBuildFlags ? [ ],
      cargoTestFlags ? [ ],
      meta,
    }:
    let
      # `importCargoLock` reads the file while it evaluates: one fetch for every crate.
      lock = lib.importTOML (({ lockFile }: lockFile) cargoLock);
      crates = builtins.length lock.package;
    in
    assert builtins.all (flag: builtins.match "--.*" flag != null) (cargoBuildFlags ++ cargoTestFlags);
    called pname {
      inherit
        version
        crates
        cargoBuildFlags
        cargoTestFlags
        ;
      src = toString src;
      meta = metaOf meta;
    };

  dockerTools.buildLayeredImage =
    {
      name,
      tag,
      compressor,
      contents,
      fakeRootCommands,
      config,
    }:
    assert builtins.elem compressor [
      "none"
      "gz"
      "zstd"
    ];
    called "${name}.tar" {
      inherit
        name
        tag
        fakeRootCommands
        system
        ;
      contents = toolNames contents;
      config = imageConfigOf config;
    };

  mkShell =
    {
      packages ? [ ],
    }@asked:
    called "nix-shell" { packages = toolNames asked.packages; };

  writeShellApplication =
    {
      name,
      runtimeInputs,
      text,
    }:
    called name {
      inherit text;
      runtimeInputs = toolNames runtimeInputs;
    };

  runCommand =
    name:
    { nativeBuildInputs }:
    script:
    called name {
      inherit script;
      nativeBuildInputs = toolNames nativeBuildInputs;
    };
}
