class FolderImages:
    pass
