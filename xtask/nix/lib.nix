# The functions of nixpkgs' lib that our flake calls, as strict about their arguments as the real ones.
rec {
  genAttrs =
    names: value:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = value name;
      }) names
    );
  optional = condition: element: if condition then [ element ] else [ ];
  optionalAttrs = condition: attributes: if condition then attributes else { };
  replaceStrings = builtins.replaceStrings;
  importTOML = path: builtins.fromTOML (builtins.readFile path);
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  licenses.asl20.spdxId = "Apache-2.0";

  # A file set names files that exist: the real functions refuse one that does not.
  fileset = {
    unions =
      files:
      map (
        file: if builtins.pathExists file then file else throw "${toString file} does not exist"
      ) files;
    toSource =
      { root, fileset }:
      builtins.deepSeq fileset (
        builtins.path {
          path = root;
          name = "source";
          filter = _: _: false;
        }
      );
  };
}
