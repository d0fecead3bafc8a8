# The toolchain, the command-line tools and the image, pinned together by flake.lock.
{
  description = "A StatefulSet lab that runs itself on a real Kubernetes and writes the page that proves it";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forEachSystem = output: lib.genAttrs systems (system: output (packagesFor system));
      packagesFor =
        system:
        import nixpkgs {
          inherit system;
          # 26.05 is the last release that knows Macs with Intel processors, and says so on every evaluation.
          config.allowDeprecatedx86_64Darwin = true;
        };
      # Containers are Linux: a Mac asks a Linux builder of the same processor.
      linuxFor =
        pkgs: packagesFor (lib.replaceStrings [ "darwin" ] [ "linux" ] pkgs.stdenv.hostPlatform.system);

      manifest = (lib.importTOML ./Cargo.toml).workspace.package;

      # Only what the counter is made of, so that a word in the docs builds nothing again.
      # Cargo asks every member of the workspace for its manifest and one target.
      counterSources = lib.fileset.toSource {
        root = ./.;
        fileset = lib.fileset.unions [
          ./Cargo.lock
          ./Cargo.toml
          ./app
          ./xtask/Cargo.toml
          ./xtask/archive/Cargo.toml
          ./xtask/archive/src/lib.rs
          ./xtask/cli/Cargo.toml
          ./xtask/cli/src/lib.rs
          ./xtask/dev/Cargo.toml
          ./xtask/dev/src/main.rs
          ./xtask/engine/Cargo.toml
          ./xtask/engine/src/lib.rs
          ./xtask/explain/Cargo.toml
          ./xtask/explain/src/lib.rs
          ./xtask/machine/Cargo.toml
          ./xtask/machine/src/lib.rs
          ./xtask/model/Cargo.toml
          ./xtask/model/src/lib.rs
          ./xtask/node-image/Cargo.toml
          ./xtask/node-image/src/lib.rs
          ./xtask/setup/Cargo.toml
          ./xtask/setup/src/lib.rs
          ./xtask/src/main.rs
        ];
      };

      counterFor =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = "counter";
          inherit (manifest) version;
          src = counterSources;
          cargoLock.lockFile = ./Cargo.lock;
          cargoBuildFlags = [ "--package=counter" ];
          cargoTestFlags = [ "--package=counter" ];
          meta = {
            description = "A visits counter whose number survives everything";
            license = lib.licenses.asl20;
            mainProgram = "counter";
          };
        };

      # What stands here is what `xtask/engine/src/image/contract.rs` asks of every archive, whoever built it.
      imageFor =
        pkgs:
        pkgs.dockerTools.buildLayeredImage {
          name = "counter";
          # A kubelet pulls `latest` on every start; a version it takes from the node.
          tag = manifest.version;
          # What `kind load image-archive` takes on every engine.
          compressor = "none";
          contents = [
            (counterFor pkgs)
            pkgs.busybox
            (pkgs.fakeNss.override {
              extraPasswdLines = [ "counter:x:65532:65532:counter:/data:/bin/sh" ];
              extraGroupLines = [ "counter:x:65532:" ];
            })
          ];
          fakeRootCommands = ''
            mkdir --parents data tmp
            chown 65532:65532 data
            chmod 0755 data
            chmod 1777 tmp
          '';
          config = {
            User = "65532:65532";
            Entrypoint = [ "/bin/counter" ];
            Env = [ "PATH=/bin" ];
            ExposedPorts."8000/tcp" = { };
            Volumes."/data" = { };
            WorkingDir = "/";
            Labels = {
              "org.opencontainers.image.title" = "counter";
              "org.opencontainers.image.version" = manifest.version;
              "org.opencontainers.image.revision" = self.rev or self.dirtyRev or "unknown";
              # The counter's, busybox's and glibc's.
              "org.opencontainers.image.licenses" = "${manifest.license} AND GPL-2.0-only AND LGPL-2.1-or-later";
            };
          };
        };

      # Everything `cargo xtask` looks for. A tool whose version it refuses is built by go from its pin.
      toolsFor =
        pkgs:
        [
          pkgs.actionlint
          pkgs.cargo
          pkgs.cargo-deny
          pkgs.clippy
          pkgs.git
          pkgs.go
          pkgs.kind
          pkgs.kubectl
          pkgs.kubernetes-helm
          pkgs.rustc
          pkgs.rustfmt
          # What links Rust and Go programs.
          pkgs.stdenv.cc
        ]
        # A Mac's containers live in the machine that Docker Desktop or podman installs beside Nix.
        ++ lib.optional pkgs.stdenv.hostPlatform.isLinux pkgs.podman;

      labFor =
        pkgs:
        pkgs.writeShellApplication {
          name = "lab";
          runtimeInputs = toolsFor pkgs;
          text = ''
            if [ ! -e .cargo/config.toml ]; then
              echo 'error: nix run .#lab works inside a checkout of this repository' >&2
              exit 2
            fi
            exec cargo xtask lab "$@"
          '';
        };

      formattingFor =
        pkgs:
        pkgs.runCommand "formatting"
          {
            nativeBuildInputs = [
              pkgs.cargo
              pkgs.nixfmt
              pkgs.rustfmt
            ];
          }
          ''
            cd ${self}
            export CARGO_HOME=$TMPDIR
            cargo fmt --all --check
            nixfmt --check flake.nix xtask/nix/*.nix
            touch $out
          '';
    in
    {
      packages = forEachSystem (pkgs: rec {
        default = counter;
        counter = counterFor pkgs;
        image = imageFor (linuxFor pkgs);
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell { packages = toolsFor pkgs; };
        # What a release signs and publishes with.
        release = pkgs.mkShell {
          packages = toolsFor pkgs ++ [
            pkgs.cosign
            pkgs.gh
          ];
        };
      });

      apps = forEachSystem (pkgs: rec {
        default = lab;
        lab = {
          type = "app";
          program = lib.getExe (labFor pkgs);
          meta.description = "Run the whole lab: build, cluster, install, experiments, evidence";
        };
      });

      checks = forEachSystem (
        pkgs:
        {
          # Building the counter runs its tests.
          counter = counterFor pkgs;
          formatting = formattingFor pkgs;
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux { image = imageFor pkgs; }
      );

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
